"""Stamps to tensors: the same bits as astropy's, whatever the stamp."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from broker.packets.cutouts import MAX_STAMP, BadStamp, cut_all, image, reference_image, with_cutouts
from broker.packets.decode import decode
from broker.packets.registry import Folder
from broker.packets.schema import CUTOUT_SHAPE, CUTOUT_TENSOR, CUTOUTS
from broker.packets.survey import survey
from tests.packets.made import fits_bytes, stamp


@pytest.fixture(scope="module")
def ztf(ztf_packets) -> pa.Table:
    return decode(survey("ztf"), [packet for _, packet in ztf_packets]).alerts


@pytest.fixture(scope="module")
def lsst(lsst_wire, lsst_containers, lsst_schemas) -> pa.Table:
    packets = [packet for _, packet in [*lsst_wire, *lsst_containers]]
    return decode(survey("lsst"), packets, Folder(lsst_schemas)).alerts


@pytest.mark.parametrize(("name", "number"), [("ztf", 3 * 1144), ("lsst", 3 * 274)])
def test_every_given_stamp_has_the_bits_of_astropy(name, number, request):
    stamps = [s.as_py() for column in CUTOUTS for s in request.getfixturevalue(name)[column]]
    assert len(stamps) == number
    for one in stamps:
        fast, slow = image(one), reference_image(one)
        assert fast.shape == slow.shape
        assert fast.tobytes() == slow.tobytes()


def test_no_given_stamp_needs_astropy_and_oddities_are_counted(ztf, lsst):
    cut = cut_all(ztf)
    assert cut.bad == {}
    assert cut.counts == {"edge_stamps": 33, "nan_stamps": 421, "sentinel_stamps": 2}
    cut = cut_all(lsst)
    assert cut.bad == {}
    assert "odd_headers" not in cut.counts


def test_the_in_flight_columns(ztf):
    table = with_cutouts(ztf.slice(0, 3))
    assert table.schema.field("cutouts").type == CUTOUT_TENSOR
    assert table.schema.field("cutout_shape").type == CUTOUT_SHAPE
    assert with_cutouts(table) is table
    pixels = table["cutouts"].combine_chunks().to_numpy_ndarray()
    assert pixels.shape == (3, 3, 63, 63)
    for row in range(3):
        for j, name in enumerate(CUTOUTS):
            assert np.array_equal(pixels[row, j], image(table[name][row].as_py()), equal_nan=True)


def test_lsst_stamps_are_padded_or_cropped_about_their_middle(lsst):
    table = with_cutouts(lsst)
    shapes = table["cutout_shape"].to_pylist()
    assert max(shapes) == [71, 71]
    assert min(shapes) == [30, 30]
    pixels = table["cutouts"].combine_chunks().to_numpy_ndarray()
    row = shapes.index([30, 30])
    assert np.array_equal(pixels[row, 0, 16:46, 16:46], image(table["cutout_science"][row].as_py()), True)
    assert np.isnan(pixels[row, 0, :16]).all()
    row = shapes.index([71, 71])
    assert np.array_equal(pixels[row, 0], image(table["cutout_science"][row].as_py())[4:67, 4:67], True)


def table(*stamps: bytes | None) -> pa.Table:
    return pa.table({name: pa.array(stamps, pa.large_binary()) for name in CUTOUTS})


def pixels_of(one: bytes | None) -> tuple[np.ndarray, dict[str, int]]:
    cut = cut_all(table(one))
    assert cut.bad == {}
    return cut.tensors.to_numpy_ndarray()[0, 0], {what: n // 3 for what, n in cut.counts.items()}


def hdu(image_: np.ndarray, **cards: object) -> fits.PrimaryHDU:
    return fits.PrimaryHDU(image_, fits.Header(cards))


def test_what_is_no_value_is_nan_and_counted():
    values = np.ones((63, 63), ">f4")
    values[0, :4] = [np.nan, np.inf, -np.inf, -3.4e38]
    pixels, counts = pixels_of(fits_bytes(fits.HDUList([hdu(values)])))
    assert np.isnan(pixels[0, :4]).all()
    assert np.nansum(pixels) == 63 * 63 - 4
    assert counts == {"nan_stamps": 1, "infinite_stamps": 1, "sentinel_stamps": 1}


def test_great_but_true_values_stay():
    pixels, counts = pixels_of(fits_bytes(fits.HDUList([hdu(np.full((63, 63), 1e25, ">f4"))])))
    assert (pixels == np.float32(1e25)).all()
    assert counts == {}


def test_a_missing_stamp_has_no_pixels():
    cut = cut_all(table(None, stamp((63, 50))))
    assert np.isnan(cut.tensors.to_numpy_ndarray()[0]).all()
    assert cut.shapes.to_pylist() == [[0, 0], [63, 50]]
    assert cut.counts == {"missing_stamps": 3, "edge_stamps": 3}


ODD = stamp(BLANK=-1)


@pytest.mark.parametrize(
    "odd",
    [
        fits_bytes(fits.HDUList([hdu(np.arange(3969, dtype=">i2").reshape(63, 63), BZERO=7.0)])),
        fits_bytes(fits.HDUList([hdu(np.arange(3969, dtype=">f8").reshape(63, 63) / 3)])),
        fits_bytes(fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((63, 63), ">f4"))])),
        fits_bytes(fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((63, 63), np.float32))])),
        fits_bytes(
            fits.HDUList([fits.PrimaryHDU(np.ones((63, 63), ">f4")), fits.ImageHDU(np.zeros((9, 9)))])
        ),
        ODD,
        stamp(gzipped=False, **{f"KEY{i}": i for i in range(90)}),
        gzip.compress(stamp(gzipped=False)[:5000]) + gzip.compress(stamp(gzipped=False)[5000:]),
        stamp((200, 201)),
    ],
    ids=["scaled", "f8", "extension", "compressed", "many HDUs", "BLANK", "long header", "members", "big"],
)
def test_odd_files_are_read_as_astropy_reads_them(odd):
    assert image(odd).tobytes() == reference_image(odd).tobytes()
    pixels_of(odd)


def test_an_odd_header_is_counted():
    assert pixels_of(ODD)[1]["odd_headers"] == 1


def test_ztfs_non_standard_card_is_no_odd_header():
    plain = stamp(gzipped=False)
    ztf = gzip.compress(plain.replace(b"SIMPLE  =                    T", b"SIMPLE  =  T".ljust(30), 1))
    pixels, counts = pixels_of(ztf)
    assert counts == {}
    assert np.array_equal(pixels, image(plain))


# A header of five blocks, and an axis that leads five blocks back.
BACK_TO_ITSELF = stamp(gzipped=False, **{f"KEY{i}": i for i in range(150)}).replace(
    b"NAXIS1  =                   63", b"NAXIS1  =                  -63"
)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"not an image", "neither gzip nor FITS"),
        (gzip.compress(b"not an image"), "astropy cannot read it|no two-dimensional image"),
        (stamp()[:-20], "cut short"),
        (stamp()[:-6] + b"\0\0" + stamp()[-4:], "damaged"),
        (gzip.compress(stamp(gzipped=False)[:3000]), "astropy cannot read it"),
        (gzip.compress(bytes(MAX_STAMP + 1)), "inflates to more than"),
        (gzip.compress(bytes(MAX_STAMP + 1))[:-4] + b"\0\1\0\0", "inflates to more|damaged"),
        (stamp(gzipped=False) + bytes(MAX_STAMP), "more than the"),
        (fits_bytes(fits.HDUList([fits.PrimaryHDU()])), "no two-dimensional image"),
        (BACK_TO_ITSELF, "no two-dimensional image"),
    ],
    ids=[
        *("text", "gzipped text", "short", "checksum", "few pixels", "bomb", "liar", "big", "empty"),
        "loop",
    ],
)
def test_what_is_no_image_says_why(bad, why):
    with pytest.raises(BadStamp, match=why):
        image(bad)
    cut = cut_all(table(bad, stamp()))
    assert list(cut.bad) == [0]
    assert cut.shapes.to_pylist() == [[0, 0], [63, 63]]
    assert np.isnan(cut.tensors.to_numpy_ndarray()[0]).all()
