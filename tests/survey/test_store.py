from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.survey.images import Images
from appulse.survey.parts import PARTS, Split
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey

from .random_galaxies import GRID, LENGTH, SIZE, assert_same, galaxies


@pytest.fixture
def store(tmp_path: Path) -> SurveyStore:
    return SurveyStore.create(tmp_path / "s.lance", (galaxies(i, i + 10) for i in range(0, 60, 10)))


# --- what goes in comes out


def test_reads_what_was_written(store: SurveyStore):
    assert len(store) == 60
    assert_same(SurveyStore.open(store.path).read(), galaxies(0, 60))


@settings(max_examples=20)
@given(rows=st.lists(st.integers(0, 19), min_size=1, max_size=30))
def test_rows_come_in_the_order_asked_for(rows: list[int], tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "order.lance"
    if not path.exists():
        SurveyStore.create(path, [galaxies(0, 8), galaxies(8, 20)])
    assert_same(SurveyStore.open(path).read(rows), galaxies(0, 20)[rows])


def test_columns_of_every_kind_and_missing_values(tmp_path: Path):
    survey = galaxies(
        0,
        3,
        morphology=np.array(["spiral", "", "edge-on"]),
        zwarn=np.array([0, 4, 1 << 40]),
        log_mstar=np.array([10.5, np.nan, 9], dtype=np.float32),
        quiescent=np.array([True, False, True]),
    )
    store = SurveyStore.create(tmp_path / "s", [survey])
    assert_same(store.read(), survey)
    assert store.columns(["log_mstar"])["log_mstar"].dtype == np.float32
    assert store.rows(where="log_mstar IS NULL").tolist() == [1]
    assert store.rows(where="morphology IS NULL OR zwarn = 0").tolist() == [0, 1]


def test_desi_wavelengths_are_kept_once(tmp_path: Path):
    spectra = Spectra.from_arrays(np.ones((2, 7781)), ivar=np.ones(7781))
    images = Images.from_arrays(np.ones((2, 3, 4, 5)))
    store = SurveyStore.create(tmp_path / "s", [Survey(images, spectra)])
    assert "wavelength" not in store.names
    assert_same(store.read(), Survey(images, spectra))
    ids = np.array(["other-0", "other-1"])
    shifted = replace(spectra, ids=ids, wavelength=spectra.wavelength + 0.1)
    with pytest.raises(ValueError, match="DESI grid; rebin"):
        store.append([Survey(replace(images, ids=ids), shifted)])


def test_flux_beyond_float16_is_masked(tmp_path: Path):
    flux = np.ones((1, 3, 4, 4))
    flux[0, 1, 2, 3], flux[0, 0, 0, 0], flux[0, 0, 0, 1] = 65600, -7e4, 65504
    spectra = Spectra.from_arrays(np.ones((1, LENGTH)), wavelength=GRID, ivar=1.0)
    images = SurveyStore.create(tmp_path / "s", [Survey(Images.from_arrays(flux), spectra)]).take(
        [0], ["images"]
    )["images"]
    assert np.argwhere(images.mask).tolist() == [[0, 0, 0, 0], [0, 1, 2, 3]]
    assert images.flux[0, :2, [0, 2], [0, 3]].tolist() == [[0, 1], [1, 0]]
    assert images.flux[0, 0, 0, 1] == 65504


def test_a_row_has_one_position(tmp_path: Path):
    survey = galaxies(0, 3)
    ra = survey.images.ra.copy()
    ra[1:] = np.nan
    spectra = replace(survey.spectra, ra=np.array([5.0, 6.0, np.nan]))
    store = SurveyStore.create(
        tmp_path / "s", [Survey(replace(survey.images, ra=ra), spectra, survey.columns)]
    )
    images = store.read().images
    np.testing.assert_array_equal(images.ra, [ra[0], 6, np.nan])
    assert (store.columns(["healpix"])["healpix"] < 0).tolist() == [False, False, True]


def test_no_galaxies_are_lost_where_positions_are_said_to_be_beyond_the_sky(tmp_path: Path):
    survey = galaxies(0, 4)
    nowhere = {"ra": np.full(4, -999.0), "dec": np.full(4, -999.0)}
    images = Images.from_arrays(survey.images.flux, ids=survey.ids, **nowhere)
    spectra = Spectra.from_arrays(
        survey.spectra.flux, wavelength=survey.spectra.wavelength[0], ids=survey.ids, **nowhere
    )
    store = SurveyStore.create(tmp_path / "s.lance", [Survey(images, spectra)])
    assert len(store) == 4
    assert not store.duplicates
    assert np.isnan(store.columns(["ra"])["ra"]).all()


def test_healpix_cells_hold_the_positions(store: SurveyStore):
    sky = store.columns(["ra", "dec", "healpix"])
    centre = SkyCoord(*HEALPix(64, order="nested").healpix_to_lonlat(sky["healpix"]))
    distance = centre.separation(SkyCoord(sky["ra"], sky["dec"], unit="deg"))
    assert (distance.deg < 0.92).all()  # cells are 0.92° wide


def test_parquet_holds_the_same_rows(store: SurveyStore, tmp_path: Path):
    store.to_parquet(tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    expected = galaxies(0, 60)
    assert table["targetid"].to_pylist() == expected.ids.tolist()
    np.testing.assert_array_equal(np.array(table["ivar"].to_pylist()), expected.spectra.ivar)
    image = np.array(table["image"].to_pylist(), dtype=float).reshape(60, 3, SIZE, SIZE)
    np.testing.assert_array_equal(image, expected.images.flux.astype(np.float16))
    assert table.schema.field("wavelength").metadata[b"unit"].startswith(b"Angstrom")
    assert store.units["pixel_scale"] == "arcsec"


# --- parts and selections


def test_parts_are_disjoint_complete_and_stay(store: SurveyStore):
    before = {part: store.rows(part) for part in PARTS}
    assert sorted(np.concatenate([*before.values()])) == list(range(60))
    store.append([galaxies(60, 100)])
    for part, rows in before.items():
        np.testing.assert_array_equal(store.rows(part)[: len(rows)], rows)


def test_the_split_is_kept_with_the_store(tmp_path: Path):
    split = Split(by="sky", seed=5)
    SurveyStore.create(tmp_path / "s", [galaxies(0, 20)], split=split)
    store = SurveyStore.open(tmp_path / "s")
    store.append([galaxies(20, 40)])
    assert store.split == split
    images = store.read().images
    expected = split.assign(images.ids, images.ra, images.dec)
    np.testing.assert_array_equal(store.columns(["part"])["part"], expected)


def test_selects_by_part_and_condition(store: SurveyStore):
    everything = store.columns(["part", "redshift", "targetid"])
    chosen = (everything["part"] == "encoder-train") & (everything["redshift"] < 0.5)
    query = {"part": "encoder-train", "where": "redshift < 0.4 OR redshift < 0.5"}
    np.testing.assert_array_equal(store.rows(**query), np.flatnonzero(chosen))
    np.testing.assert_array_equal(store.read(**query).ids, everything["targetid"][chosen])
    found = store.columns(["redshift"], **query)["redshift"]
    np.testing.assert_array_equal(found, everything["redshift"][chosen])


def test_iterates_over_a_part_in_order(store: SurveyStore):
    pieces = list(store.iter("encoder-train", batch_size=7))
    assert {len(piece) for piece in pieces[:-1]} == {7}
    assert_same(Survey.concatenate(pieces), store.read(part="encoder-train"))


# --- batches


def test_batches_hold_the_fields_asked_for(store: SurveyStore):
    fields = ("images", "spectra", "redshift", "targetid")
    ids = []
    for batch in store.batches("encoder-train", 8, fields=fields, where="redshift > 0.1"):
        numbers = [int(name.split("-")[1]) for name in batch["targetid"]]
        expected = Survey.concatenate([galaxies(i, i + 1) for i in numbers])
        columns = {"redshift": batch["redshift"]}
        assert_same(Survey(batch["images"], batch["spectra"], columns), expected)
        ids += numbers
    assert sorted(ids) == store.rows("encoder-train", "redshift > 0.1").tolist()


def test_batches_read_no_more_than_asked(store: SurveyStore):
    bytes_read = {}
    for fields in (("redshift",), ("spectra",), ("images", "spectra")):
        fresh = SurveyStore.open(store.path)
        list(fresh.batches(None, 30, fields=fields))
        bytes_read[fields] = fresh._dataset.io_stats_incremental().read_bytes
    assert bytes_read["redshift",] < bytes_read["spectra",] / 4
    assert bytes_read["spectra",] < 0.7 * bytes_read["images", "spectra"]


def test_batches_leave_torch_as_it_was(store: SurveyStore):
    state = torch.get_rng_state()
    list(store.batches(None, 30))
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_are_the_same_from_any_step(store: SurveyStore):
    order = {"batch_size": 8, "seed": 3, "fields": ("images", "spectra", "redshift", "targetid")}
    here = list(store.batches(None, **order, epochs=2))
    there = list(store.batches(None, **order, epochs=2, start=11))
    assert len(here) == 16
    assert len(there) == 5
    for one, other in zip(here[11:], there, strict=True):
        for name in ("images", "spectra"):
            for array in vars(one[name]):
                np.testing.assert_array_equal(
                    getattr(one[name], array), getattr(other[name], array)
                )
        np.testing.assert_array_equal(one["targetid"], other["targetid"])
        np.testing.assert_array_equal(one["redshift"], other["redshift"])


# --- errors


def test_names_what_is_not_there(store: SurveyStore, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no survey store at .*nowhere.*appulse pair"):
        SurveyStore.open(tmp_path / "nowhere")
    (tmp_path / "file.fits").write_text("SIMPLE")
    with pytest.raises(ValueError, match=r"file.fits is a file; a survey store is a folder"):
        SurveyStore.open(tmp_path / "file.fits")
    lance.write_dataset(pa.table({"ra": [1.0]}), tmp_path / "other")
    with pytest.raises(ValueError, match="Lance dataset, but not a survey store"):
        SurveyStore.open(tmp_path / "other")
    with pytest.raises(ValueError, match=r"no part 'train'.*encoder-train"):
        store.rows("train")
    with pytest.raises(ValueError, match=r"rows where 'colour > 1'.*colour"):
        store.rows(where="colour > 1")
    with pytest.raises(ValueError, match=r"there is no colour, flux; expected any of .*redshift"):
        store.columns(["redshift", "colour", "flux"])
    with pytest.raises(ValueError, match="there is no images"):
        store.columns(["images"])
    with pytest.raises(IndexError, match=r"rows \[60, -1\] are beyond the store's 60 rows"):
        store.read([3, 60, -1])
    with pytest.raises(ValueError, match=r"no rows .* are selected"):
        store.read(where="redshift > 2")
    with pytest.raises(ValueError, match="not both"):
        store.read([1], part="test")
    with pytest.raises(ValueError, match="do not fill a batch"):
        store.batches("test", 8, where="redshift > 2")


def test_images_of_two_kinds_cannot_be_read_at_once(store: SurveyStore):
    survey = galaxies(60, 62)
    store.append([Survey(replace(survey.images, kind="rgb"), survey.spectra, survey.columns)])
    with pytest.raises(ValueError, match=r"kinds \['flux', 'rgb'\].*where="):
        store.read()
    assert store.read(where="kind = 'rgb'").images.kind == "rgb"


def test_identity_names_the_galaxies_and_their_order(store: SurveyStore, tmp_path: Path):
    again = SurveyStore.create(tmp_path / "again.lance", [galaxies(0, 60)])
    assert again.identity == store.identity == SurveyStore.open(store.path).identity
    order = np.arange(60)[::-1]
    turned = SurveyStore.create(tmp_path / "turned.lance", [galaxies(0, 60)[order]])
    fewer = SurveyStore.create(tmp_path / "fewer.lance", [galaxies(0, 59)])
    others = SurveyStore.create(tmp_path / "others.lance", [galaxies(1, 61)])
    again.append([galaxies(60, 61)])
    identities = [s.identity for s in (store, again, turned, fewer, others)]
    assert len({identity["ids"] for identity in identities}) == 5
    assert [identity["rows"] for identity in identities] == [60, 61, 60, 59, 60]
