"""Versions from strangers: what is wrong with them is said in a sentence, before it can do any harm."""

from __future__ import annotations

import json
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.contract import open_model, shipped_version
from models.manifest import FILE, WEIGHTS, ModelError


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_version("stamps"), tmp_path / "1"))


def _change(folder: Path, **changes: object) -> Path:
    manifest = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**manifest, **changes}))
    return folder


def _header(folder: Path, header: bytes, declared: int | None = None) -> Path:
    length = len(header) if declared is None else declared
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + header)
    return folder


def test_weights_that_declare_ten_gigabytes_take_no_memory(stamps: Path) -> None:
    entry = {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10_000_000_000]}
    with pytest.raises(ModelError, match=r"declares 10,000,000,\d+ bytes and has \d+"):
        open_model(_header(stamps, json.dumps({"w": entry}).encode()))


@pytest.mark.parametrize("declared", [2**63, 1 << 40, 0])
def test_a_header_longer_than_its_file_is_refused(stamps: Path, declared: int) -> None:
    with pytest.raises(ModelError, match="its header cannot have"):
        open_model(_header(stamps, b"{}", declared))


@pytest.mark.parametrize("header", [b"[]", b"{nonsense", b'{"w": {"shape": [1]}}', b'{"w": 3}', b"[" * 5000])
def test_an_odd_header_is_refused(stamps: Path, header: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        open_model(_header(stamps, header))


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"members": 5, "width": 10**6, "neurons": 10**6},
        {"members": 5, "bins": 10**12},
        {"members": 10**9},
        {"members": -1},
        {"members": 5, "width": -16},
        {"members": "5"},
    ],
)
def test_a_network_of_absurd_size_is_refused_before_it_is_made(
    stamps: Path, hyperparameters: dict[str, object]
) -> None:
    begin = time.perf_counter()
    with pytest.raises(ModelError, match=r"has shape|odd hyper-parameters|differ in the tensors"):
        open_model(_change(stamps, hyperparameters=hyperparameters))
    assert time.perf_counter() - begin < 30


def _graph(nodes, initializers=(), domain="", output="probability"):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _version(folder: Path, model: onnx.ModelProto | bytes, **hyperparameters: object) -> Path:
    folder.mkdir(exist_ok=True)
    manifest = {
        "name": "foreign",
        "version": "1",
        "architecture": "models.onnx:Onnx",
        "classes": ["yes", "no"],
        "inputs": ["flux"],
        "hyperparameters": {
            "feeds": {"x": "models.prepare:numbers"},
            "output": "probability",
            **hyperparameters,
        },
    }
    (folder / FILE).write_text(json.dumps(manifest))
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    return folder


SIGMOID = [helper.make_node("Sigmoid", ["x"], ["probability"])]


def test_an_honest_graph_opens(tmp_path: Path) -> None:
    assert open_model(_version(tmp_path / "1", _graph(SIGMOID))).classes == ("yes", "no")


@pytest.mark.parametrize("location", ["../../../etc/passwd", "/etc/passwd", "weights.bin"])
@pytest.mark.parametrize("where", ["weights", "a graph below"])
def test_a_graph_whose_weights_lie_in_another_file_is_refused(
    tmp_path: Path, location: str, where: str
) -> None:
    tensor = numpy_helper.from_array(np.ones((1, 1), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    if where == "weights":
        model = _graph([helper.make_node("MatMul", ["x", "w"], ["probability"])], [tensor])
    else:
        constant = helper.make_node("Constant", [], ["w"], value=tensor)
        below = helper.make_graph([constant], "below", [], [helper.make_tensor_value_info("w", 1, None)])
        model = _graph(
            [
                helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
                helper.make_node("If", ["c"], ["probability"], then_branch=below, else_branch=below),
            ]
        )
    with pytest.raises(ModelError, match="lie in another file"):
        open_model(_version(tmp_path / "1", model))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"\x80\x04 a pickle", "is no ONNX file|cannot be loaded"),
        (b"", "cannot be loaded"),
        (
            _graph([helper.make_node("Backdoor", ["x"], ["probability"], domain="evil")], domain="evil"),
            "evil",
        ),
        (_graph([helper.make_node("Nonsense", ["x"], ["probability"])]), "cannot be loaded"),
        (_graph([helper.make_node("Sigmoid", ["x"], ["q"])], output="q"), "no output 'probability'"),
        (
            _graph([helper.make_node("Concat", ["x", "x", "x"], ["probability"], axis=1)]),
            "3 numbers for 2 classes",
        ),
    ],
)
def test_a_graph_that_cannot_be_used_is_refused(
    tmp_path: Path, model: onnx.ModelProto | bytes, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        open_model(_version(tmp_path / "1", model))


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({"feeds": {"x": "os:system"}}, "neither in Rayfinch's `models.prepare`"),
        ({"feeds": {"x": "models.doubles:Double"}}, "neither in Rayfinch's `models.prepare`"),
        ({"feeds": {"x": "models.prepare:_PAD"}}, "not a function"),
        ({"feeds": {"x": ["models.prepare:numbers"]}}, "not a function"),
        ({"feeds": {"y": "models.prepare:numbers"}}, "the graph's inputs are x"),
        ({"feeds": "x"}, "must name `feeds`"),
        ({"run": "rm"}, "odd hyper-parameters in model.json: run"),
    ],
)
def test_feeds_that_are_none_are_refused(
    tmp_path: Path, hyperparameters: dict[str, object], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        open_model(_version(tmp_path / "1", _graph(SIGMOID), **hyperparameters))


def test_a_graph_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = _version(tmp_path / "1", _graph(SIGMOID))
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match="points outside its folder"):
        open_model(folder)
