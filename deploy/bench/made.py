"""A robot and policies of given sizes, for measurements."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deploy.bundle.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, Contract, Parity
from robot_rl.spec import Entry, Spec, vector

HIDDEN = (256, 256)


def made_spec(obs_dim: int, action_dim: int) -> Spec:
    """A robot of these sizes."""
    names = tuple(map(str, range(action_dim)))
    action = Entry("action", names, low=(-1.0,) * action_dim, high=(1.0,) * action_dim)
    return Spec((vector("observation", obs_dim),), (action,), rate_hz=500.0, control="torque")


def made_model(spec: Spec, hidden: tuple[int, ...]) -> onnx.ModelProto:
    """An untrained network of these sizes, without contract."""
    rng = np.random.default_rng(0)
    sizes = (spec.obs_dim, *hidden, spec.action_dim)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    at = INPUT_NAME
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        matrix: NDArray[np.float32] = rng.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{i}"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"b{i}"))
        is_last = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [f"z{i}"]))
        at = OUTPUT_NAME if is_last else f"h{i}"
        nodes.append(helper.make_node("Tanh" if is_last else "Relu", [f"z{i}"], [at]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in ((INPUT_NAME, spec.obs_dim), (OUTPUT_NAME, spec.action_dim))
    ]
    graph = helper.make_graph(nodes, "policy", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def stamped(model: onnx.ModelProto, spec: Spec, version: int) -> bytes:
    """The model with a contract that says `version`."""
    parity = Parity(
        max_abs=0.0,
        tolerance=1e-5,
        max_abs_recorded=0.0,
        max_abs_random=0.0,
        max_abs_extreme=0.0,
        extreme_rounding=0.0,
        samples_recorded=0,
        samples_random=0,
        samples_extreme=0,
        batch_sizes=(1,),
    )
    contract = Contract(
        spec=spec, weight_version=version, algorithm="none", run="bench", stats_digest="none", parity=parity
    )
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model.SerializeToString()
