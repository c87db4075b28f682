"""A network as an ONNX file, run by ONNX Runtime: the architecture for whatever was not trained here.

`hyperparameters` of its model.json: `feeds` names for each input of the graph the function that makes it from
the alerts ("models.prepare:triplet", or one that an installed distribution announces); `output` the graph's
output, probabilities: (rows, classes), or (rows,) or (rows, 1) of the first of two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from models.contract import named, scores
from models.manifest import Manifest, ModelError, read_manifest

ARCHITECTURE = "models.onnx:Onnx"
FILE = "model.onnx"
MAX_BYTES = 1 << 30
# Rows per pass. Fixed, the last one padded: a row's result must not depend on how many came with it.
CHUNK = 64
# The operators that the standard defines; others would be somebody's compiled code.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")

Prepare = Callable[[pa.Table, tuple[str, ...]], np.ndarray]


class Onnx:
    """The network through the contract of models."""

    def __init__(
        self, manifest: Manifest, session: Any, feeds: Mapping[str, Prepare], output: str, device: str
    ) -> None:
        self.name, self.version = manifest.name, manifest.version
        self.classes, self.inputs = manifest.classes, manifest.inputs
        self.precondition = manifest.precondition
        self.manifest = manifest
        self.device = device
        self._session, self._feeds, self._output = session, feeds, output

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        manifest = read_manifest(folder)
        asked = manifest.hyperparameters
        if odd := sorted(set(asked) - {"feeds", "output"}):
            raise ModelError(f"{folder}: odd hyper-parameters in model.json: {', '.join(odd)}")
        if not isinstance(asked.get("feeds"), dict) or not isinstance(asked.get("output"), str):
            raise ModelError(f"{folder}: model.json must name `feeds` (input: function) and the `output`")
        session = _session(folder, device)
        inputs = {i.name for i in session.get_inputs()}
        if inputs != set(asked["feeds"]):
            raise ModelError(
                f"{folder}: the graph's inputs are {', '.join(sorted(inputs))}, model.json feeds "
                f"{', '.join(sorted(asked['feeds']))}"
            )
        outputs = [o.name for o in session.get_outputs()]
        if asked["output"] not in outputs:
            raise ModelError(
                f"{folder}: the graph has no output {asked['output']!r}, but {', '.join(outputs)}"
            )
        feeds = {name: _function(path, folder) for name, path in asked["feeds"].items()}
        model = cls(manifest, session, feeds, asked["output"], device)
        model._try(folder)
        return model

    def score(self, table: pa.Table) -> pa.Table:
        """Null for an alert of which an input is not finite, or the network's answer."""
        rows = len(table)
        fed = {name: prepare(table, self.inputs) for name, prepare in self._feeds.items()}
        known = np.ones(rows, bool)
        for name, values in fed.items():
            if len(values) != rows:
                raise ModelError(
                    f"{self.name} {self.version}: {len(values)} rows of {name!r} for {rows} alerts"
                )
            known &= np.isfinite(values.reshape(rows, -1)).all(axis=1) if rows else known
        found = np.empty((rows, len(self.classes)), np.float32)
        for first in range(0, rows, CHUNK):
            chunk = {name: _padded(values[first : first + CHUNK]) for name, values in fed.items()}
            found[first : first + CHUNK] = self._answer(chunk)[: rows - first]
        return scores(self.classes, found, known)

    def _answer(self, chunk: Mapping[str, np.ndarray]) -> np.ndarray:
        (said,) = self._session.run([self._output], dict(chunk))
        said = np.asarray(said, np.float32).reshape(len(next(iter(chunk.values()))), -1)
        if said.shape[1] == 1 and len(self.classes) == 2:
            said = np.concatenate([said, 1 - said], axis=1)
        if said.shape[1] != len(self.classes):
            raise ModelError(
                f"{self.name} {self.version}: {said.shape[1]} numbers for {len(self.classes)} classes"
            )
        return said

    def _try(self, folder: Path) -> None:
        """One chunk of zeros, in the shapes that the graph states: does it run at all?"""
        try:
            self._answer(
                {i.name: np.zeros((CHUNK, *_row(i)), np.float32) for i in self._session.get_inputs()}
            )
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime has errors of its own for each operator
            raise ModelError(
                f"{folder / FILE} does not run on {CHUNK} alerts: {_first_line(error)}"
            ) from error


def _session(folder: Path, device: str) -> Any:
    import onnxruntime

    path = checked(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # replicas are the unit of parallel work
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded: {_first_line(error)}") from error


def checked(folder: Path) -> Path:
    """The version's ONNX file. Raises ModelError where it reads other files, or runs others' operators."""
    import onnx
    from google.protobuf.message import DecodeError

    path = folder / FILE
    if not path.is_file():
        raise ModelError(f"{folder} is not a version of an ONNX model: it has no {FILE}")
    if path.resolve().parent != folder.resolve():
        raise ModelError(f"{path} points outside its folder: copy the file into it")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path} is no ONNX file: {_first_line(error)}") from error
    for graph in [model.graph, *model.functions]:
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                where = next((e.value for e in tensor.external_data if e.key == "location"), "?")
                raise ModelError(
                    f"{path}: the weights {tensor.name!r} lie in another file ({where}): save them in the "
                    "ONNX file itself"
                )
    if foreign := sorted({o.domain for o in model.opset_import} - set(DOMAINS)):
        raise ModelError(f"{path} uses operators that ONNX does not define: {', '.join(foreign)}")
    return path


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, those in attributes and in graphs below it too."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for below in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from _tensors(below)


def _function(path: Any, folder: Path) -> Prepare:
    if not isinstance(path, str) or not callable(found := named(path, folder, "models.prepare:")):
        raise ModelError(f"{folder}: {path!r} is not a function that makes an input from alerts")
    return found


def _row(described: Any) -> list[int]:
    """The shape of one row of a graph's input, 1 where it is not fixed."""
    return [n if isinstance(n, int) and n > 0 else 1 for n in described.shape[1:]]


def _padded(values: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(np.ascontiguousarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if len(values) == CHUNK:
        return values
    return np.concatenate([values, np.repeat(values[:1], CHUNK - len(values), axis=0)])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
