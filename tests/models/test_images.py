"""From cutouts to views: robust, masked, the same for one image whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from models import columns, images
from models.manifest import ModelError
from models.testing import tensor


@pytest.fixture
def stars() -> np.ndarray:
    draw = np.random.default_rng(1)
    found = draw.normal(200, 5, (4, 3, 63, 63)).astype(np.float32)
    found[:, :, 31, 31] += 500
    return found


def test_an_image_is_in_sigmas_above_its_sky(stars: np.ndarray) -> None:
    scaled, valid = images.normalised(stars)
    assert valid.all()
    assert abs(float(np.median(scaled))) < 0.1
    assert scaled[:, :, 31, 31].mean() == pytest.approx(100, rel=0.1)
    brighter, _ = images.normalised(stars * 7 - 1000)
    np.testing.assert_allclose(brighter, scaled, atol=0.01)


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -3.4e38])
def test_pixels_that_are_none_are_masked(stars: np.ndarray, pixel: float) -> None:
    whole, _ = images.normalised(stars)
    stars[0, :, :10] = pixel
    scaled, valid = images.normalised(stars)
    assert not valid[0, :, :10].any()
    assert valid.sum() == stars.size - 3 * 10 * 63
    assert (scaled[0, :, :10] == 0).all()
    np.testing.assert_array_equal(scaled[1:], whole[1:])


def test_views_are_the_same_beside_a_masked_image(stars: np.ndarray) -> None:
    alone = images.views(*map(torch.from_numpy, images.normalised(stars[1:])))
    stars[0, 2] = np.nan
    among = images.views(*map(torch.from_numpy, images.normalised(stars)))
    assert among.shape == (4, images.CHANNELS, images.VIEW, images.VIEW)
    torch.testing.assert_close(among[1:], alone, rtol=0, atol=0)
    assert (among[0, [8, 11]] == 0).all(), "the masks of the missing image"
    assert (among[0, [6, 7, 9, 10]] == 1).all()


def test_both_views_are_centred_on_the_alert(stars: np.ndarray) -> None:
    shown, valid = map(torch.from_numpy, images.normalised(stars))
    for turned in (lambda t: t.flip(3), lambda t: t.flip(2), lambda t: torch.rot90(t, 1, (2, 3))):
        torch.testing.assert_close(
            images.views(turned(shown), turned(valid)), turned(images.views(shown, valid))
        )


def test_cutouts_are_read_with_nulls_slices_and_chunks(stars: np.ndarray) -> None:
    whole = pa.table({"cutouts": tensor(stars)})
    np.testing.assert_array_equal(columns.cutouts(whole.slice(1, 2)), stars[1:3])
    np.testing.assert_array_equal(
        columns.cutouts(pa.concat_tables([whole, whole])), np.concatenate([stars, stars])
    )
    null = whole.take(pa.array([0, None, 2]))
    assert np.isnan(columns.cutouts(null)[1]).all()
    np.testing.assert_array_equal(columns.cutouts(null)[[0, 2]], stars[[0, 2]])


def test_other_types_of_cutouts_are_an_error() -> None:
    with pytest.raises(ModelError, match="not a fixed-shape tensor"):
        columns.cutouts(pa.table({"cutouts": [b"FITS"]}))
