import numpy as np
import pytest

from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.survey import COLUMN_UNITS, Survey, label_columns


def _survey(ids, **columns):
    n = len(ids)
    images = Images.from_arrays(np.arange(n * 48.0).reshape(n, 3, 4, 4), ids=ids)
    spectra = Spectra.from_arrays(
        np.arange(n * 5.0).reshape(n, 5), wavelength=np.arange(5.0), ivar=np.ones(5), ids=ids
    )
    return Survey(images, spectra, {"redshift": np.arange(n) / 10, **columns})


def test_images_and_spectra_must_be_the_same_galaxies():
    a, b = _survey(["a", "b"]), _survey(["b", "a"])
    with pytest.raises(ValueError, match="pair them first"):
        Survey(a.images, b.spectra)


def test_columns_have_one_entry_per_galaxy():
    with pytest.raises(ValueError, match="age has shape"):
        _survey(["a", "b"], age=np.zeros(3))


def test_slices_and_concatenation_keep_rows_together():
    survey = _survey(["a", "b", "c"])
    again = Survey.concatenate([survey[[2]], survey[:2]])
    assert again.ids.tolist() == ["c", "a", "b"]
    np.testing.assert_array_equal(again.columns["redshift"], [0.2, 0, 0.1])
    np.testing.assert_array_equal(again.images.flux[0], survey.images.flux[2])
    np.testing.assert_array_equal(again.spectra.flux[0], survey.spectra.flux[2])
    assert len(again) == 3


def test_different_columns_do_not_concatenate():
    with pytest.raises(ValueError, match="columns differ"):
        Survey.concatenate([_survey(["a"]), _survey(["b"], age=np.ones(1))])


def test_labels_are_those_of_the_catalogue_where_there_are_two():
    columns = ["age_true", "age_catalogue", "redshift", "ra", "log_mstar_true", "morphology"]
    expected = {"redshift": "redshift", "age": "age_catalogue", "morphology": "morphology"}
    assert label_columns(columns) == expected
    assert label_columns([]) == {}
    assert set(COLUMN_UNITS) > {"age_true", "age_catalogue", "age"}
