"""Baselines, protocol and report."""
