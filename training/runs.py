"""A training in MLflow: settings, curves, metrics, pictures of the held-out objects, the version's files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from models.folders import contents
from models.registry import Registry, numbers
from training.charts import draw
from training.fitting import Trained

EXPERIMENT = "rayfinch-training"
PICTURE, NUMBERS = "held-out.png", "held-out.json"


def keep(registry: Registry, trained: Trained, folder: Path) -> str:
    """Log the training of the version in `folder`; the run's id. Raises RegistryError.

    It is not registered by this: `rayfinch models register FOLDER` does.
    """
    manifest = trained.manifest
    with registry.client(make=True) as client, tempfile.TemporaryDirectory() as room:
        experiment = registry.experiment(client, EXPERIMENT)
        run = client.create_run(experiment, run_name=f"{manifest.name}@{manifest.version}").info.run_id
        settings = manifest.training["config"]
        for name, value in {**settings, "seed": manifest.training["seed"]}.items():
            client.log_param(run, name, value)
        for name, file in manifest.data["files"].items():
            client.log_param(run, f"sha256 {name}", file["sha256"])
        client.set_tag(run, "command", manifest.training["command"])
        client.set_tag(run, "code", manifest.code_revision)
        for member, curve in enumerate(trained.curves, 1):
            for epoch, (loss, validation) in enumerate(curve, 1):
                client.log_metric(run, f"loss of member {member}", loss, step=epoch)
                client.log_metric(run, f"validation of member {member}", validation, step=epoch)
        for name, number in numbers(manifest.metrics).items():
            client.log_metric(run, name, number)
        draw(trained.held_out, trained.truth, trained.probabilities, manifest.classes, Path(room, PICTURE))
        Path(room, NUMBERS).write_text(json.dumps(trained.held_out, indent=1))
        for name in (PICTURE, NUMBERS):
            client.log_artifact(run, str(Path(room, name)))
        for path in contents(folder):
            client.log_artifact(run, str(path), "version")
        client.set_terminated(run)
    return run
