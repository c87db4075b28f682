"""The packet's numbers: of any schema, with what is missing said to be missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from models import sky
from models.features import COMMON, LATE, NAMES, packet_features
from models.testing import alerts


def source(table: pa.Table, **fields: pa.Array) -> pa.Table:
    made = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return table.set_column(table.schema.get_field_index("source"), "source", made)


def test_integers_floats_nulls_and_text_in_source_columns() -> None:
    table = source(
        alerts(3),
        nneg=pa.array([5, None, 0], pa.int32()),
        sgscore1=pa.array([0.5, -999.0, np.nan], pa.float32()),
        magnr=pa.array(["text", "", None]),
        fwhm=pa.nulls(3),
    )
    found = dict(zip(NAMES, packet_features(table).T, strict=True))
    np.testing.assert_array_equal(found["nneg"], np.float32([5, np.nan, 0]))
    np.testing.assert_array_equal(found["sgscore1"], np.float32([0.5, np.nan, np.nan]))
    assert np.isnan(found["magnr"]).all()
    assert np.isnan(found["fwhm"]).all()
    assert np.isnan(found["distnr"]).all(), "a column that this schema does not have"


def test_a_null_source_has_no_values_even_where_its_buffers_do() -> None:
    made = pa.StructArray.from_arrays([pa.array([1.0, 2.0])], ["magnr"], mask=pa.array([True, False]))
    table = alerts(2)
    table = table.set_column(table.schema.get_field_index("source"), "source", made)
    found = packet_features(table)[:, NAMES.index("magnr")]
    np.testing.assert_array_equal(found, np.float32([np.nan, 2.0]))


def test_every_survey_gives_the_common_ones() -> None:
    table = alerts(5)
    bare = packet_features(table.drop_columns("source"))
    assert np.isfinite(bare[:, : len(COMMON)]).all()
    assert np.isnan(bare[:, len(COMMON) :]).all()


def test_columns_of_newer_schemas_come_last() -> None:
    assert NAMES[-len(LATE) :] == LATE
    assert all("gaia" in name for name in LATE)
    assert not any("gaia" in name for name in NAMES[: -len(LATE)])


@pytest.mark.parametrize(
    ("ra", "dec", "galactic", "ecliptic"),
    [(192.8595, 27.1283, 90.0, 31.0), (266.405, -28.936, 0.0, -5.5), (0.0, 0.0, -60.19, 0.0)],
)
def test_latitudes(ra: float, dec: float, galactic: float, ecliptic: float) -> None:
    """The galactic pole, the galactic centre and the vernal equinox."""
    for pole, wanted, within in ((sky.GALACTIC_POLE, galactic, 0.05), (sky.ECLIPTIC_POLE, ecliptic, 1.3)):
        sine = sky.sine_of_latitude(np.array([ra]), np.array([dec]), pole)
        assert np.degrees(np.arcsin(np.clip(sine, -1, 1)))[0] == pytest.approx(wanted, abs=within)
