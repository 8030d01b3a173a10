"""Flow matching: paths, velocities, ODEs and densities; knows no galaxy."""
