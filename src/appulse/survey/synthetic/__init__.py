"""Synthetic galaxies with known truth, from stars and gas to images and spectra."""
