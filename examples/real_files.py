"""Real images and spectra of the same galaxies: does each image find its spectrum?

    python examples/real_files.py demo/align folder/with/jpeg/and/spec-files

Images are viewer JPEGs of 0.1 arcsec per pixel, named by the SDSS object id that spectra carry.
"""

import sys

import appulse
from appulse.survey.crossmatch import pair

model, folder = appulse.load(sys.argv[1]), sys.argv[2]
images = appulse.read_images(f"{folder}/*.jpeg", pixel_scale=0.1)
spectra = appulse.read_spectra(f"{folder}/spec-*.fits")
galaxies = pair(images, spectra, by="id").survey()
cosine = model.embed_images(galaxies.images) @ model.embed_spectra(galaxies.spectra).T
ranks = (-cosine).argsort(axis=1).argsort(axis=1).diagonal() + 1
redshifts = model.redshift(galaxies.spectra)
for name, rank, z in zip(galaxies.ids, ranks, redshifts, strict=True):
    print(f"{name}: partner ranks {rank} of {len(galaxies)}, redshift {z:.4f}")
