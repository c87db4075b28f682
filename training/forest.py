"""A forest of coniferest as one ONNX graph: from shapes with gaps to the probability of an anomaly."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.prepare import MISSING

OPSET = 17


def as_onnx(forest: Any, medians: np.ndarray, slope: float, offset: float, feed: str, output: str) -> bytes:
    """Fill what is MISSING with `medians` (shapes,), ask the forest, make its score a probability (rows, 1).

    The logistic of slope x strangeness + offset; strangeness is minus the forest's score.
    """
    from coniferest.onnx import to_onnx
    from onnx import TensorProto, checker, helper, numpy_helper

    inner = to_onnx(forest, medians[None].astype(np.float32))
    graph = inner.graph
    [asked], answer = [i.name for i in graph.input], graph.output[-1].name
    constants = {
        "_medians": medians[None].astype(np.float32),
        "_missing": np.float32(MISSING / 2),
        "_slope": np.float32(-slope),
        "_offset": np.float32(offset),
        "_column": np.array([-1, 1], np.int64),
    }
    before = [
        helper.make_node("Less", [feed, "_missing"], ["_gap"]),
        helper.make_node("Where", ["_gap", "_medians", feed], [asked]),
    ]
    after = [
        helper.make_node("Cast", [answer], ["_score"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["_score", "_column"], ["_scores"]),
        helper.make_node("Mul", ["_scores", "_slope"], ["_sloped"]),
        helper.make_node("Add", ["_sloped", "_offset"], ["_logit"]),
        helper.make_node("Sigmoid", ["_logit"], [output]),
    ]
    whole = helper.make_graph(
        [*before, *graph.node, *after],
        "anomaly",
        [helper.make_tensor_value_info(feed, TensorProto.FLOAT, ["rows", len(medians)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows", 1])],
        [*graph.initializer, *(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())],
    )
    others = [opset for opset in inner.opset_import if opset.domain]
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET), *others])
    model.ir_version = inner.ir_version
    checker.check_model(model)
    return model.SerializeToString()
