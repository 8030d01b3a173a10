"""Galaxy spectra: preprocessing, the transformer, masked modelling, redshifts."""
