"""Nearest neighbours; knows no galaxy."""
