"""Keras networks of plain layers as ONNX graphs, from their own JSON and HDF5: none of their code is run.

Images come in as (rows, channels, height, width), whatever order the network was trained in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import ModelError

OPSET = 17
OUTPUT = "probability"
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}
_PASSED = ("Dropout", "InputLayer", "GaussianNoise")  # they do nothing when it scores


def to_onnx(weights: Path, architecture: Path | None = None) -> Any:
    """An ONNX model of the network in an HDF5 file (`architecture`: its JSON, where the file lacks it).

    Layers: Conv2D, SeparableConv2D, MaxPooling2D, GlobalAveragePooling2D, Flatten, Dense, Concatenate and
    Dropout, in a sequence or a graph. Raises ModelError for any other, and for files that are not Keras's.
    """
    try:
        import h5py
    except ImportError as error:
        raise ModelError("to read Keras's HDF5 files: pip install h5py") from error
    try:
        with h5py.File(weights, "r") as file:
            text = architecture.read_text() if architecture else file.attrs.get("model_config")
            if text is None:
                raise ModelError(f"{weights} has no architecture in it: name its JSON file")
            config = json.loads(text)
            arrays = _arrays(file.get("model_weights", file))
    except (OSError, ValueError) as error:
        raise ModelError(f"{weights} cannot be read as a Keras network: {error}") from error
    try:
        return _Graph(arrays).built(config["config"])
    except (KeyError, TypeError, IndexError) as error:
        raise ModelError(f"{weights}: its architecture is odd: {error!r}") from error


def _arrays(group: Any) -> dict[str, dict[str, np.ndarray]]:
    """By layer, its weights by their last name ("kernel", "bias", …)."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for layer in group:
        held = found.setdefault(layer, {})

        def take(name: str, item: Any, held: dict[str, np.ndarray] = held) -> None:
            if hasattr(item, "shape"):
                held[name.rpartition("/")[2].partition(":")[0]] = item[()]

        group[layer].visititems(take)
    return found


class _Graph:
    """The nodes of an ONNX graph, in the order in which they are added."""

    def __init__(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self.arrays = arrays
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def built(self, config: Any) -> Any:
        from onnx import TensorProto, helper

        graph = config if isinstance(config, dict) else {"layers": config}
        inputs, made = [], {}
        before: list[str] = []
        for layer in graph["layers"]:
            kind, settings = layer["class_name"], layer["config"]
            name, came = settings["name"], _inbound(layer) or before
            if not came or kind == "InputLayer":
                shape = settings.get("batch_input_shape") or settings["batch_shape"]
                row = [shape[3], shape[1], shape[2]] if len(shape) == 4 else list(shape[1:])
                entry = name if kind == "InputLayer" else f"{name}_input"
                inputs.append(helper.make_tensor_value_info(entry, TensorProto.FLOAT, ["rows", *row]))
                made[entry], came = entry, [entry]
            made[name] = self._layer(kind, settings, [made[source] for source in came])
            before = [name]
        ends = [end[0] for end in graph.get("output_layers", [])] or before
        self.nodes.append(helper.make_node("Identity", [made[ends[0]]], [OUTPUT]))
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)
        whole = helper.make_graph(self.nodes, "keras", inputs, [output], self.constants)
        return helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def _layer(self, kind: str, settings: Mapping[str, Any], came: list[str]) -> str:
        name, weights = settings["name"], self.arrays.get(settings["name"], {})
        if kind in _PASSED:
            return came[0]
        if kind == "Dense":
            kernel = weights["kernel"]
            bias = self._constant(f"{name}.bias", weights.get("bias", np.zeros(kernel.shape[1])))
            gemm = self._node("Gemm", name, [came[0], self._constant(f"{name}.kernel", kernel), bias])
            return self._activated(gemm, settings)
        if kind == "Conv2D":
            kernel = weights["kernel"].transpose(3, 2, 0, 1)
            return self._activated(self._conv(name, came, kernel, weights.get("bias"), settings), settings)
        if kind == "SeparableConv2D":
            depth = weights["depthwise_kernel"]  # (height, width, channels, multiplier)
            kernel = depth.transpose(2, 3, 0, 1).reshape(-1, 1, *depth.shape[:2])
            each = self._conv(f"{name}.depth", came, kernel, None, settings, group=depth.shape[2])
            plain = {"strides": [1, 1], "padding": "valid"}
            kernel = weights["pointwise_kernel"].transpose(3, 2, 0, 1)
            return self._activated(self._conv(name, [each], kernel, weights.get("bias"), plain), settings)
        if kind == "MaxPooling2D":
            window, strides = settings["pool_size"], settings["strides"]
            pad = _padding(settings)
            return self._node("MaxPool", name, came, kernel_shape=window, strides=strides, auto_pad=pad)
        if kind == "GlobalAveragePooling2D":
            return self._node("Flatten", name, [self._node("GlobalAveragePool", f"{name}.mean", came)])
        if kind == "Flatten":  # Keras flattens with the channels last
            turned = self._node("Transpose", f"{name}.turned", came, perm=[0, 2, 3, 1])
            return self._node("Flatten", name, [turned])
        if kind == "Concatenate" and settings.get("axis", -1) in (-1, 1):
            return self._node("Concat", name, came, axis=1)
        raise ModelError(f"the layer {name!r} is a {kind}, which is not read: export the network as ONNX")

    def _conv(
        self,
        name: str,
        came: list[str],
        kernel: np.ndarray,
        bias: np.ndarray | None,
        settings: Mapping[str, Any],
        group: int = 1,
    ) -> str:
        given = [*came, self._constant(f"{name}.kernel", kernel)]
        if bias is not None:
            given.append(self._constant(f"{name}.bias", bias))
        steps = {"strides": settings["strides"], "dilations": settings.get("dilation_rate", [1, 1])}
        return self._node("Conv", name, given, group=group, auto_pad=_padding(settings), **steps)

    def _activated(self, made: str, settings: Mapping[str, Any]) -> str:
        activation = settings.get("activation", "linear")
        if activation == "linear":
            return made
        if activation not in _ACTIVATIONS:
            raise ModelError(f"the activation {activation!r} is not read: export the network as ONNX")
        return self._node(_ACTIVATIONS[activation], f"{made}.{activation}", [made])

    def _node(self, kind: str, name: str, came: list[str], **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, came, [name], **attributes))
        return name

    def _constant(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name


def _inbound(layer: Mapping[str, Any]) -> list[str]:
    """The names of the layers that a layer of a graph reads; none in a sequence."""
    nodes = layer.get("inbound_nodes") or []
    return [source[0] for source in nodes[0]] if nodes else []


def _padding(settings: Mapping[str, Any]) -> str:
    return {"valid": "VALID", "same": "SAME_UPPER"}[settings["padding"]]
