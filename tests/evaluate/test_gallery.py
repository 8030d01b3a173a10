import numpy as np
import pytest

from appulse.evaluate.gallery import SMOOTHING, neighbour_gallery
from appulse.figures import ORANGE
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.survey import Survey


@pytest.fixture(scope="module")
def survey():
    """Five galaxies whose image and spectrum both say which row they are."""
    rows = np.arange(5.0)
    flux = 0.01 * np.ones((5, 3, 16, 16)) * (1 + rows[:, None, None, None])
    spectra = np.ones((5, 7781)) * (1 + rows[:, None])
    spectra[:, ::50] = np.nan
    return Survey(
        Images.from_arrays(flux),
        Spectra.from_arrays(spectra, ivar=np.ones((5, 7781))),
        {"redshift": rows / 10},
    )


@pytest.fixture(scope="module")
def vectors():
    angle = np.linspace(0, 1, 5)
    on_a_circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return {"image": on_a_circle, "spectrum": on_a_circle}


def test_images_find_spectra(survey, vectors):
    figure = neighbour_gallery("image → spectrum", vectors, survey.__getitem__, [1, 4], k=2)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["query, z 0.100", "z 0.100, cos 1.00"]
    assert titles[3:] == ["query, z 0.400", "z 0.400, cos 1.00", "z 0.300, cos 0.97"]
    framed = [axes.title.get_color() == ORANGE for axes in figure.axes]
    assert framed == [False, True, False] * 2
    wavelength, flux = figure.axes[5].lines[0].get_xydata().T
    np.testing.assert_allclose(flux, 4)  # row 3, masked pixels interpolated
    assert len(flux) == 7781 // SMOOTHING
    assert wavelength[0] == pytest.approx(3600 + 0.8 * (SMOOTHING - 1) / 2)
    assert figure.axes[0].images


def test_spectra_find_images(survey, vectors):
    bare = Survey(survey.images, survey.spectra)
    figure = neighbour_gallery("spectrum → image", vectors, bare.__getitem__, [2], k=3)
    assert [bool(axes.images) for axes in figure.axes] == [False, True, True, True]
    assert figure.axes[0].get_title() == "query, z ?"


@pytest.mark.parametrize("modality", ["image", "spectrum"])
def test_within_a_modality_the_query_is_left_out(survey, vectors, modality):
    direction = f"{modality} → {modality}"
    figure = neighbour_gallery(direction, vectors, survey.__getitem__, [0, 4], k=2)
    titles = [axes.get_title().split(",")[0] for axes in figure.axes]
    assert titles == ["query", "z 0.100", "z 0.200", "query", "z 0.300", "z 0.200"]
    assert all(bool(axes.images) == (modality == "image") for axes in figure.axes)
    assert not any(axes.title.get_color() == ORANGE for axes in figure.axes)
