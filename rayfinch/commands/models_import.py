"""`rayfinch models import`: a foreign checkpoint becomes a version folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayfinch.registered import Json

if TYPE_CHECKING:
    import pyarrow as pa

app = typer.Typer()


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="ONNX, Keras HDF5, PyTorch state dict or safetensors.")],
    manifest: Annotated[
        Path, typer.Option(help="The version's model.json, as its author wrote it (docs/deploy-a-model.md).")
    ],
    into: Annotated[Path, typer.Option(help="Where <name>/<version> is made.")] = Path("versions"),
    architecture: Annotated[
        Path | None, typer.Option(help="Keras: the network's JSON, where the HDF5 file lacks it.")
    ] = None,
    packets: Annotated[
        Path | None,
        typer.Option(help="Packets (file, folder, tarball) for the golden scores. Default: made-up alerts."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a version of a foreign checkpoint: plain files with golden scores. No code in it is run.

    Example: rayfinch models import braai.onnx --manifest model.json --into versions
    """
    from models.importing import import_checkpoint

    golden = _decoded(packets) if packets else None
    folder, model = import_checkpoint(source, manifest, into, golden, architecture)
    if as_json:
        print(json.dumps({"folder": str(folder), "name": model.name, "version": model.version}))
    else:
        print(f"{model.name}@{model.version} -> {folder}")
        print(f"next: rayfinch models test {folder}; rayfinch models register {folder}")


def _decoded(path: Path) -> pa.Table:
    """The first few alerts of one survey's packets."""
    from itertools import islice

    from broker.packets.decode import decode
    from broker.packets.files import read_packets
    from broker.packets.survey import survey
    from models.importing import GOLDEN
    from models.manifest import ModelError
    from rayfinch.demo import by_survey

    found = by_survey(list(islice(read_packets([path]), 10 * GOLDEN)), None)
    for name, of_survey in found.items():
        table = decode(survey(name), [value for _, value in of_survey], cutouts=True).alerts
        if len(table):
            return table.slice(0, GOLDEN)
    raise ModelError(f"{path}: none of its first packets can be decoded")
