"""The fastest way to evaluate a network, among those that say the same."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from models import lightcurve
from models.contract import open_model, shipped_version
from models.lightcurve import LightCurve
from models.stamps import Stamps, verdict
from models.together import Together
from models.variants import AGREEMENT, Variant, fastest, formats, measured


class Simple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 4, 3)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.look(seen).mean(dim=(2, 3)).float(), dim=1)


class Rough(Simple):
    """Says something else in any format but the plain one."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        plain = seen.is_contiguous() and not torch.is_autocast_enabled("cpu")
        return super().forward(seen) + (0 if plain else 2 * AGREEMENT)


def choices(network: nn.Module, rows: int = 32) -> list[Variant]:
    return [Variant(name, rows, call) for name, call in formats(network).items()]


def example(rows: int) -> tuple[torch.Tensor]:
    return (torch.randn(rows, 3, 31, 31, generator=torch.Generator().manual_seed(0)),)


def test_whatever_is_chosen_agrees_with_the_plain_network() -> None:
    torch.manual_seed(0)
    network, (seen,) = Simple().eval(), example(32)
    with torch.inference_mode():
        assert (fastest(choices(network), example)(seen) - network(seen)).abs().max() <= AGREEMENT


def test_a_variant_that_disagrees_is_not_chosen() -> None:
    torch.manual_seed(0)
    rough = choices(Rough().eval())
    assert fastest(rough, example).name == "fp32"
    assert [m.agrees for m in measured(rough, example)] == [True, False, False]


def test_the_plain_network_is_the_reference() -> None:
    assert list(formats(Simple())) == ["fp32", "channels-last", "bf16"]


def test_a_variant_whose_rows_depend_on_their_places_is_not_chosen() -> None:
    network = Simple().eval()

    def by_place(seen: torch.Tensor) -> torch.Tensor:
        return network(seen) + torch.linspace(0, AGREEMENT / 2, len(seen))[:, None]

    [_, odd] = measured([Variant("fp32", 32, network), Variant("odd", 32, by_place)], example)
    assert odd.difference <= AGREEMENT
    assert not odd.agrees


class Counted(Simple):
    calls = 0

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        Counted.calls += 1
        return super().forward(seen)


def test_a_choice_is_kept_for_the_next_start(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = Counted().eval()
    chosen = fastest(choices(network), example, "digest of a version")
    [file] = (tmp_path / "rayfinch" / "variants").iterdir()
    assert json.loads(file.read_text())["name"] == chosen.name
    before = Counted.calls
    assert fastest(choices(network), example, "digest of a version").name == chosen.name
    assert Counted.calls == before, "a restart does not pay again"

    fastest(choices(network), example, "digest of another")
    assert Counted.calls > before
    file.write_text("{")
    fastest(choices(network), example, "digest of a version")
    assert json.loads(file.read_text())["rows"] == 32, "what cannot be read is measured again"


def test_where_nothing_can_be_kept_it_is_measured_each_time(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fastest(choices(Simple().eval()), example, "a version").rows == 32


def test_perceptrons_of_light_curves_say_together_what_they_say_one_by_one() -> None:
    network = open_model(shipped_version("lightcurve"))
    assert isinstance(network, LightCurve)
    (shape,) = network._example(100)
    shape[::3, ::2] = torch.nan
    with torch.inference_mode():
        for rows in (shape, shape[:1]):
            one_by_one = network._ensemble(rows)
            assert (lightcurve.Together(network._ensemble)(rows) - one_by_one).abs().max() <= 1e-5


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-5), (torch.bfloat16, AGREEMENT)])
def test_members_evaluated_together_say_what_they_say_one_by_one(dtype, gap) -> None:
    network = open_model(shipped_version("stamps"))
    assert isinstance(network, Stamps)
    inputs = network._example(128)
    with torch.inference_mode():
        one_by_one = network._ensemble(*inputs)
        assert (Together(network._ensemble, verdict, dtype)(*inputs) - one_by_one).abs().max() <= gap
