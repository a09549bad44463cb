"""From a trained policy to a bundle, with proof that the two compute the same.

The graph holds normaliser and action scaling: raw observation in, executable action out; a memory goes in and comes
out beside them where the policy has one. Parity is checked before anything appears under the final name.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import nn

from deploy.bundle.contract import (
    CERTIFICATE_FILE,
    INPUT_NAME,
    METADATA_KEY,
    MODEL_FILE,
    NEXT_STATE_NAME,
    OUTPUT_NAME,
    STATE_NAME,
    Contract,
)
from deploy.bundle.parity import step_parity
from deploy.bundle.sequence_parity import sequence_parity
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.data.durable import require_new
from robot_rl.errors import ConfigError
from robot_rl.nets.recurrent import RecurrentPolicy
from robot_rl.spec import Array, Spec

OPSET = 18
WITH_MEMORY = (OUTPUT_NAME, NEXT_STATE_NAME)


def export_policy(trained: TrainedPolicy, out: Path, recorded: Sequence[Array], *, tolerance: float = 1e-5) -> Contract:
    """Write the bundle of `trained` to the folder `out`, all or nothing.

    Args:
        trained: Policy to export; left unchanged.
        out: Folder to create; it must not exist.
        recorded: Observations of its data to compare on, (T, S) each: episodes in order where the policy has a
            memory, any otherwise. Empty where the data are gone.
        tolerance: Largest allowed absolute action difference, action units; see `sequence_parity` for a memory.

    Returns:
        The contract written into the bundle.

    Raises:
        ConfigError: If `out` exists, or the module returns something else than a policy does.
        ParityError: If ONNX Runtime differs from PyTorch by more than `tolerance`; nothing is left behind.
    """
    require_new(out, error=ConfigError)
    module = copy.deepcopy(trained.module).cpu().float().eval()
    chunk = planned_actions(module, trained.spec)
    inputs = {INPUT_NAME: trained.spec.obs_dim}
    if isinstance(module, RecurrentPolicy):
        state_dim = module.state_dim
        model = to_onnx(module, inputs | {STATE_NAME: state_dim}, outputs=WITH_MEMORY)
        parity = sequence_parity(module, model, trained, recorded, tolerance)
    else:
        state_dim, model = 0, to_onnx(module, inputs)
        parity = step_parity(module, model, trained, recorded, tolerance)
    contract = Contract(
        spec=trained.spec,
        weight_version=trained.step,
        algorithm=trained.algorithm,
        run=trained.run.resolve().name,
        stats_digest=trained.stats.digest,
        parity=parity,
        chunk=chunk,
        state_dim=state_dim,
    )
    write_bundle(model, contract, out)
    return contract


def planned_actions(module: nn.Module, spec: Spec) -> int:
    """Actions that a policy returns for one observation: 1 for (B, A), H for (B, H, A) with H above 1.

    Raises:
        ConfigError: If it returns anything else.
    """
    if isinstance(module, RecurrentPolicy):
        _require_memory(module, spec)
        return 1
    with torch.inference_mode():
        shape = tuple(module(torch.zeros(2, spec.obs_dim)).shape)
    return chunk_of(shape[1:], spec.action_dim, "The policy")


def _require_memory(module: RecurrentPolicy, spec: Spec) -> None:
    with torch.inference_mode():
        obs = torch.randn(2, spec.obs_dim, generator=torch.Generator().manual_seed(0))
        action, state = module(obs, torch.zeros(2, module.state_dim))
    found, wanted = (tuple(action.shape), tuple(state.shape)), ((2, spec.action_dim), (2, module.state_dim))
    if found != wanted:
        raise ConfigError(
            f"The policy has a memory of {module.state_dim} numbers and returns {found[0]} and {found[1]} for two "
            f"observations; it must be {wanted[0]}, one action each, and {wanted[1]}."
        )
    last = state[:, -spec.action_dim :]
    if last.shape != action.shape or not torch.allclose(last, action, equal_nan=True):
        raise ConfigError(
            f"The last {spec.action_dim} numbers of the policy's memory are not the action that it returns. They must "
            f"be: whoever executes another action writes that one there."
        )


def chunk_of(shape: tuple[object, ...], action_dim: int, what: str) -> int:
    """H of an output's shape without its batch: 1 for (A,), H for (H, A).

    Raises:
        ConfigError: If it is neither.
    """
    if shape == (action_dim,):
        return 1
    match shape:
        case (int(planned), size) if size == action_dim and planned > 1:
            return planned
        case _:
            raise ConfigError(
                f"{what} returns {shape} for one observation; it must be ({action_dim},), one action, or "
                f"(H, {action_dim}) with a fixed H above 1, a chunk of actions."
            )


def to_onnx(
    module: nn.Module,
    inputs: dict[str, int],
    *,
    outputs: tuple[str, ...] = (OUTPUT_NAME,),
    keep_weights: bool = False,
) -> onnx.ModelProto:
    """Trace a module.

    Args:
        module: In evaluation mode, on the CPU.
        inputs: Names and widths of its inputs, (batch, width) each.
        outputs: Names of its outputs.
        keep_weights: Keep every parameter under its own name instead of folding some into constants.
    """
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            module,
            tuple(torch.zeros(2, width) for width in inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=not keep_weights,
        )
    model = cast("onnx.ModelProto", program.model_proto)
    drop_traces(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def drop_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they name source files of the machine that exported."""
    graph = model.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.metadata_props[:]


def write_bundle(graph: onnx.ModelProto, contract: Contract, out: Path) -> None:
    """Write graph and contract to the folder `out`, all or nothing."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: contract.to_json()})
    model = graph.SerializeToString()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        work.mkdir()
        digest = hashlib.sha256(model).hexdigest()
        certificate = {"sha256": digest, "contract": json.loads(contract.to_json())}
        _write_synced(work / MODEL_FILE, model)
        _write_synced(work / CERTIFICATE_FILE, (json.dumps(certificate, indent=2) + "\n").encode())
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_synced(file: Path, content: bytes) -> None:
    with file.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def _quiet() -> Generator[None]:
    """Silence, by name, what the exporter says about things that don't concern a policy."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")  # "torchvision is not installed"
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", ".*The axis name: batch will not be used", UserWarning)
            yield
    finally:
        logger.setLevel(level)
