"""Galaxies as data: containers, readers, photometry, cross-match, store, simulator."""
