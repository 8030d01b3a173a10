"""Galaxy images: preprocessing and the vision transformer."""
