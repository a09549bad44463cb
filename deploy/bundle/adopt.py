"""From an ONNX policy trained elsewhere to a bundle, with proof that it still computes what its trainer did.

The file takes one flat raw observation, (batch, S) float32, and returns executable actions, (batch, A), or a
chunk of them, (batch, H, A): its own normalisation is inside. Nobody here has the original network, so its
trainer hands over pairs: observations, and what the original computed for them.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deploy.bundle.contract import INPUT_NAME, OUTPUT_NAME, Contract, Parity
from deploy.bundle.export import chunk_of, drop_traces, write_bundle
from deploy.bundle.policy import runtime_session
from robot_rl.data.durable import require_new
from robot_rl.errors import BundleError, ConfigError, DataError, ParityError
from robot_rl.spec import Array, Spec

ALGORITHM = "elsewhere"


@dataclass(frozen=True)
class Pairs:
    """What the original policy computed.

    Args:
        obs: Raw observations, (N, S).
        action: Its actions for them, (N, A) or (N, H, A), executable.
    """

    obs: Array
    action: Array


def load_pairs(file: Path) -> Pairs:
    """Read the arrays `obs` and `action` of an .npz file.

    Raises:
        DataError: If it is no such file, or the arrays are empty, not finite or of different lengths.
    """
    remedy = "Write it with numpy.savez(FILE, obs=observations, action=actions)."
    try:
        with np.load(file, allow_pickle=False) as raw:
            pairs = Pairs(raw["obs"].astype(np.float32), raw["action"].astype(np.float32))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} holds no pairs of observations and actions ({error}). {remedy}") from error
    shapes = f"obs has shape {pairs.obs.shape}, action {pairs.action.shape}"
    if pairs.obs.ndim != 2 or pairs.action.ndim not in (2, 3) or not 0 < len(pairs.obs) == len(pairs.action):
        raise DataError(f"{file}: {shapes}; needed are (N, S) and (N, A) or (N, H, A), N above 0. {remedy}")
    if not (np.isfinite(pairs.obs).all() and np.isfinite(pairs.action).all()):
        raise DataError(f"{file} holds a NaN or an infinity. {remedy}")
    return pairs


def adopt_policy(file: Path, spec: Spec, pairs: Pairs, out: Path, *, tolerance: float = 1e-5) -> Contract:
    """Write the bundle of an ONNX file to the folder `out`, all or nothing.

    Args:
        file: The ONNX file; weights beside it are taken in.
        spec: What its numbers mean, in their order.
        pairs: What the original policy computed.
        out: Folder to create; it must not exist.
        tolerance: Largest allowed absolute difference from `pairs`, action units.

    Returns:
        The contract written into the bundle.

    Raises:
        BundleError: If `file` is no ONNX graph that ONNX Runtime runs.
        ConfigError: If `out` exists, or the graph's inputs and outputs are not those of a policy for `spec`.
        ParityError: If it does not compute `pairs`; nothing is left behind.
    """
    require_new(out, error=ConfigError)
    try:
        graph = onnx.load(file)
        session = _run(graph)
    except Exception as error:  # onnx, protobuf and ONNX Runtime share no narrower base
        raise BundleError(f"{file} is not an ONNX file that ONNX Runtime runs: {error}") from error
    chunk = _require_policy(session, spec, file)
    graph = _renamed(graph)
    contract = Contract(
        spec=spec,
        weight_version=0,
        algorithm=ALGORITHM,
        run=file.stem,
        stats_digest="",
        parity=_require_same(_run(graph), pairs, tolerance),
        chunk=chunk,
    )
    write_bundle(graph, contract, out)
    return contract


def _run(graph: onnx.ModelProto) -> Any:
    return runtime_session(graph.SerializeToString())


def _require_policy(session: Any, spec: Spec, file: Path) -> int:
    """How many actions it plans, once it is found to have one input and one output of the right sizes."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for nodes, word in ((inputs, "input"), (outputs, "output")):
        if len(nodes) != 1 or nodes[0].type != "tensor(float)" or isinstance(nodes[0].shape[0], int):
            found = ", ".join(f"{n.name} {n.type} {n.shape}" for n in nodes)
            raise ConfigError(
                f"{file} has the {word}s {found}; a policy has one, float32, whose first axis is a free batch size. "
                f"Join observations into one vector, in the spec's order, and export with a dynamic batch axis. A "
                f"memory beside the observation is not taken in: only policies trained here may have one."
            )
    found = tuple(inputs[0].shape[1:])
    if found != (spec.obs_dim,):
        names = ", ".join(f"{e.name} ({e.size})" for e in spec.observation)
        raise ConfigError(
            f"{file} takes observations of shape {found}, the spec has {spec.obs_dim} numbers: {names}. Give the "
            f"--data or --arm that it was trained for."
        )
    return chunk_of(tuple(outputs[0].shape[1:]), spec.action_dim, str(file))


def _require_same(session: Any, pairs: Pairs, tolerance: float) -> Parity:
    size = session.get_inputs()[0].shape[1]
    if pairs.obs.shape[1] != size:
        raise ConfigError(f"The pairs hold observations of {pairs.obs.shape[1]} numbers; the policy takes {size}.")
    batches = (1, len(pairs.obs))
    worst = 0.0
    for batch in batches:
        parts = [
            session.run([OUTPUT_NAME], {INPUT_NAME: pairs.obs[i : i + batch]})[0]
            for i in range(0, len(pairs.obs), batch)
        ]
        found = np.concatenate(parts)
        if found.shape != pairs.action.shape:
            raise ConfigError(
                f"The policy returns {found.shape[1:]} for one observation, the pairs hold {pairs.action.shape[1:]}."
            )
        gap = np.abs(found - pairs.action)
        worst = max(worst, float(gap.max()) if np.isfinite(gap).all() else np.inf)
    if not worst <= tolerance:
        raise ParityError(
            f"The ONNX file differs by {worst:.3g} from the actions in the pairs (tolerance {tolerance:g}). Nothing "
            f"was written. See that they were computed by the same weights, in evaluation mode, in executable units."
        )
    return Parity(
        max_abs=worst,
        tolerance=tolerance,
        max_abs_recorded=worst,
        max_abs_random=0.0,
        max_abs_extreme=0.0,
        extreme_rounding=0.0,
        samples_recorded=len(pairs.obs),
        samples_random=0,
        samples_extreme=0,
        batch_sizes=batches,
    )


def _renamed(original: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with our names at its ends, joined to its own by identities; notes of the exporter removed."""
    graph = onnx.compose.add_prefix(original, "its_")  # so that no name inside is one of ours
    body = graph.graph
    weights = {tensor.name for tensor in body.initializer}
    takes = next(i for i in body.input if i.name not in weights)  # old files list their weights as inputs
    gives = body.output[0]
    body.node.insert(0, onnx.helper.make_node("Identity", [INPUT_NAME], [takes.name]))
    body.node.append(onnx.helper.make_node("Identity", [gives.name], [OUTPUT_NAME]))
    takes.name, gives.name = INPUT_NAME, OUTPUT_NAME
    drop_traces(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph
