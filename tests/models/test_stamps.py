"""The two heads of `stamps`: real or bogus, and which real source."""

from __future__ import annotations

import torch

from models.contract import open_model, shipped_version
from models.stamps import CLASSES, EARLY, Stamps, verdict


def network() -> Stamps:
    found = open_model(shipped_version("stamps"))
    assert isinstance(found, Stamps)
    return found


def test_a_verdict_is_a_probability_of_each_class() -> None:
    logits = torch.randn(3, 7, len(CLASSES), generator=torch.Generator().manual_seed(0)) * 5
    chances = verdict(logits).exp()
    assert torch.allclose(chances.sum(dim=-1), torch.ones(3, 7), atol=1e-6)
    assert torch.allclose(chances[..., -1], torch.sigmoid(logits[..., -1]), atol=1e-6)
    among = chances[..., :-1] / chances[..., :-1].sum(dim=-1, keepdim=True)
    assert torch.allclose(among, logits[..., :-1].softmax(dim=-1), atol=1e-5)


@torch.inference_mode()
def test_late_columns_may_not_decide_between_real_and_bogus() -> None:
    ensemble = network()._ensemble
    seen, numbers = network()._example(64)
    without = numbers.clone()
    without[:, EARLY:] = torch.nan
    for member in ensemble.members:
        with_all, with_early = (member(seen, *ensemble.encoded(n))[-1] for n in (numbers, without))
        assert torch.allclose(with_all[:, -1], with_early[:, -1], atol=1e-6)
        assert not torch.allclose(with_all[:, 0], with_early[:, 0], atol=1e-3)
