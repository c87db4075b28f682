"""Published networks of others, deployed with their scores intact, on real packets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.importing import import_checkpoint
from models.manifest import WEIGHTS, ModelError
from models.testing import alerts, check, values
from tests.support.foreign import ACAI, acai, braai, supernnova


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "data" / "weights" / "golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def real(ztf_packets: list[tuple[str, bytes]], golden: dict[str, np.ndarray]) -> pa.Table:
    """The 44 alerts of the golden scores, from their packets, in that order."""
    from broker.packets.decode import decode
    from broker.packets.survey import survey

    packets = [p for name, p in ztf_packets if name.startswith(("ztf_public_2020", "ztf_forced"))]
    found = decode(survey("ztf"), packets, cutouts=True).alerts
    place = {alert_id: row for row, alert_id in enumerate(found["alert_id"].to_pylist())}
    return found.take([place[i] for i in golden["alert_id"].tolist()])


def test_braai_gives_its_golden_scores(shared, real, golden, tmp_path) -> None:
    folder, model = braai(shared, tmp_path, real.slice(0, 5))
    assert sorted(p.name for p in folder.iterdir()) == ["golden.arrow", "model.json", "model.onnx"]
    scored = model.score(real)
    assert scored.column_names == ["real", "bogus"]
    assert np.abs(values(scored)[:, 0] - golden["braai_d6_m9"]).max() < 1e-5
    check(model, real)


@pytest.mark.parametrize("letter", ACAI)
def test_acai_gives_its_golden_scores(shared, real, golden, tmp_path, letter) -> None:
    _, model = acai(shared, tmp_path, letter, real.slice(0, 5))
    assert np.abs(values(model.score(real))[:, 0] - golden[f"acai_{letter}"]).max() < 1e-5


def test_braai_on_quantised_stamps_is_what_its_authors_published(shared, real, tmp_path) -> None:
    import polars as pl

    from training.dataset import stamps

    data = shared / "data"
    table = stamps(data).table
    columns = pl.read_parquet(data / "stamps" / "alerts.parquet", columns=["candid", "score_braai_d6_m9"])
    published = pl.DataFrame({"candid": table["alert_id"].to_numpy()}).join(columns, on="candid", how="left")
    _, model = braai(shared, tmp_path, real.slice(0, 5))
    found = values(model.score(table))[:, 0]
    assert len(found) > 1000
    assert np.nanmedian(np.abs(found - published["score_braai_d6_m9"].to_numpy())) < 1e-4


def test_supernnova_gives_the_scores_of_its_authors_code(ztf_packets, tmp_path) -> None:
    """Golden: supernnova 3.0.51 through fink-utils 0.79.0, on alerts whose history lies before them."""
    from broker.packets.decode import decode
    from broker.packets.survey import survey

    packets = [p for name, p in ztf_packets if name.startswith(("ztf_public_2020", "ztf_public_2023"))]
    real = decode(survey("ztf"), packets).alerts
    wanted = json.loads((Path(__file__).parent / "supernnova_golden.json").read_text())
    place = {str(alert_id): row for row, alert_id in enumerate(real["alert_id"].to_pylist())}
    real = real.take([place[alert_id] for alert_id in wanted])
    folder, model = supernnova(tmp_path, real.slice(0, 5))
    assert sorted(p.name for p in folder.iterdir()) == ["golden.arrow", "model.json", "weights.safetensors"]
    gap = np.abs(values(model.score(real))[:, 0] - list(wanted.values()))
    assert len(gap) == 221
    assert gap.max() < 2e-4
    assert np.median(gap) < 1e-5
    check(model, real.slice(0, 50))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "model.json"
    said = {
        "name": "mine",
        "version": "1",
        "architecture": "tests.support.foreign:Linear",
        "classes": ["yes", "no"],
        "inputs": ["flux"],
    }
    path.write_text(json.dumps(said))
    return path


def test_a_pytorch_checkpoint_of_an_installed_architecture(manifest, tmp_path, announced) -> None:
    torch.save({"state_dict": torch.nn.Linear(1, 2).state_dict(), "epoch": 3}, tmp_path / "mine.pt")
    folder, model = import_checkpoint(tmp_path / "mine.pt", manifest, tmp_path / "models", alerts(8))
    assert folder == tmp_path / "models" / "mine" / "1"
    assert (folder / WEIGHTS).exists()
    check(model, alerts(20))
    with pytest.raises(ModelError, match="there already, and versions never change"):
        import_checkpoint(tmp_path / "mine.pt", manifest, tmp_path / "models", alerts(8))


class Backdoor:
    def __reduce__(self):
        return (open, ("/tmp/rayfinch-was-here", "w"))


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(manifest, tmp_path, announced) -> None:
    torch.save(Backdoor(), tmp_path / "mine.pt")
    with pytest.raises(ModelError, match="no checkpoint of weights alone"):
        import_checkpoint(tmp_path / "mine.pt", manifest, tmp_path / "models", alerts(8))
    assert not Path("/tmp/rayfinch-was-here").exists()
    assert not (tmp_path / "models").exists()


def test_an_architecture_that_is_not_installed_is_named(manifest, tmp_path) -> None:
    torch.save(torch.nn.Linear(1, 2).state_dict(), tmp_path / "mine.pt")
    with pytest.raises(ModelError, match="nor an entry point of an installed distribution"):
        import_checkpoint(tmp_path / "mine.pt", manifest, tmp_path / "models", alerts(8))


@pytest.fixture
def announced(monkeypatch):
    """As if a distribution announced tests.support.foreign:Linear."""
    from types import SimpleNamespace

    from models import contract

    entry = SimpleNamespace(value="tests.support.foreign:Linear")
    monkeypatch.setattr(contract, "entry_points", lambda group: [entry])
