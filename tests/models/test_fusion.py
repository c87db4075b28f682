"""One verdict from images, columns and history, whatever of them there is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.contract import open_model, shipped_version
from models.fusion import CLASSES, KINDS, OTHERS, SUPERNOVA, Fusion, nine
from models.testing import alerts, values


@pytest.fixture(scope="module")
def network() -> Fusion:
    found = open_model(shipped_version("fusion"))
    assert isinstance(found, Fusion)
    return found


@pytest.fixture
def told() -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of the kinds and of the pasts, of six alerts."""
    draw = torch.Generator().manual_seed(3)
    kinds, pasts = (torch.randn(6, n, generator=draw).mul(2).softmax(dim=1) for n in (5, 4))
    return kinds, pasts


def there(value: bool) -> torch.Tensor:
    return torch.full((6, 1), value)


def test_without_a_history_it_says_what_the_stamps_say(network, told) -> None:
    kinds, pasts = told
    assert torch.allclose(network._ensemble.pooled(kinds, pasts, there(True), there(False)), kinds, atol=1e-5)


def test_without_images_the_history_moves_what_is_usual(network, told) -> None:
    kinds, pasts = told
    pool = network._ensemble
    found = pool.pooled(kinds, pasts, there(False), there(True))
    assert torch.allclose(found, pool.pooled(kinds.flip(0), pasts, there(False), there(True)))
    usual = pool.usual_pasts.expand(6, -1)
    unmoved = pool.pooled(kinds, usual, there(False), there(True))
    assert torch.allclose(unmoved, pool.usual_kinds.expand(6, -1), atol=1e-4)
    assert not torch.allclose(found, unmoved, atol=0.05)


def test_the_supernovae_are_told_apart_and_nothing_else_is_changed() -> None:
    draw = torch.Generator().manual_seed(0)
    kinds, types = (torch.randn(6, 5, generator=draw).softmax(dim=1) for _ in range(2))
    found = nine(kinds, types)
    assert torch.allclose(found.sum(dim=1), torch.ones(6), atol=1e-6)
    assert torch.equal(found[:, :4], kinds[:, OTHERS])
    assert torch.allclose(found[:, 4:].sum(dim=1), kinds[:, SUPERNOVA], atol=1e-6)


def emptied(table: pa.Table, *names: str) -> pa.Table:
    """The alerts without cutouts, or without history."""
    for name in names:
        field = table.schema.field(name)
        if name == "history":
            column = pa.array([[]] * len(table), field.type)
        else:
            storage = pa.array([[np.nan] * field.type.storage_type.list_size] * len(table))
            column = pa.ExtensionArray.from_storage(field.type, storage.cast(field.type.storage_type))
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table


def test_it_answers_from_what_there_is_and_is_silent_without_either(network) -> None:
    table = alerts(20)
    for missing in (("cutouts",), ("history",)):
        said = network.score(emptied(table, *missing))
        assert said[CLASSES[0]].null_count < 20, missing
    both = network.score(emptied(table, "cutouts", "history"))
    assert both[CLASSES[0]].null_count == 20


def test_of_images_alone_it_says_what_the_stamps_network_in_it_says(network) -> None:
    table = emptied(alerts(20), "history")
    stamps = open_model(shipped_version("stamps"))
    assert network.manifest.training["parts"][0] == f"stamps@{stamps.version}"
    found, alone = values(network.score(table)), values(stamps.score(table))
    for place, kind in enumerate(OTHERS):
        assert np.allclose(found[:, place], alone[:, kind], atol=0.011, equal_nan=True), KINDS[kind]
