"""Simulation-based inference: priors, posteriors, simulators, calibration; knows no galaxy."""
