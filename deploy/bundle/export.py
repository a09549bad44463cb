"""From a trained policy to a bundle, with proof that the two compute the same.

The graph holds normaliser and action scaling: raw observation in, executable action out. Parity is
checked before anything appears under the final name.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from deploy.bundle.contract import (
    CERTIFICATE_FILE,
    INPUT_NAME,
    METADATA_KEY,
    MODEL_FILE,
    OUTPUT_NAME,
    Contract,
    Parity,
)
from deploy.bundle.policy import session_options
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.data.durable import require_new
from robot_rl.errors import ConfigError, ParityError
from robot_rl.spec import Array, Spec

OPSET = 18
BATCH = 256
RANDOM_SAMPLES = 2048
EXTREME_SCALES = (10.0, 100.0, 1000.0)  # standard deviations
EXTREME_SAMPLES = 128  # of each scale
ROUNDING_FACTOR = 4.0  # two float32 programs may each be off from float64, in opposite directions


def export_policy(
    trained: TrainedPolicy, out: Path, recorded_obs: Array | None, *, tolerance: float = 1e-5
) -> Contract:
    """Write the bundle of `trained` to the folder `out`, all or nothing.

    Args:
        trained: Policy to export; left unchanged.
        out: Folder to create; it must not exist.
        recorded_obs: Observations from its data, (N, S), to compare on; None where the data are gone.
        tolerance: Largest allowed absolute action difference, action units.

    Returns:
        The contract written into the bundle.

    Raises:
        ConfigError: If `out` exists.
        ParityError: If ONNX Runtime differs from PyTorch by more than `tolerance`; nothing is left behind.
    """
    require_new(out, error=ConfigError)
    module = copy.deepcopy(trained.module).cpu().float().eval()
    chunk = planned_actions(module, trained.spec)
    model = to_onnx(module, {INPUT_NAME: trained.spec.obs_dim})
    parity = _require_parity(module, model, trained, recorded_obs, tolerance)
    contract = Contract(
        spec=trained.spec,
        weight_version=trained.step,
        algorithm=trained.algorithm,
        run=trained.run.resolve().name,
        stats_digest=trained.stats.digest,
        parity=parity,
        chunk=chunk,
    )
    write_bundle(model, contract, out)
    return contract


def planned_actions(module: nn.Module, spec: Spec) -> int:
    """Actions that a policy returns for one observation: 1 for (B, A), H for (B, H, A) with H above 1.

    Raises:
        ConfigError: If it returns anything else.
    """
    with torch.inference_mode():
        shape = tuple(module(torch.zeros(2, spec.obs_dim)).shape)
    return chunk_of(shape[1:], spec.action_dim, "The policy")


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


def to_onnx(module: nn.Module, inputs: dict[str, int], *, keep_weights: bool = False) -> onnx.ModelProto:
    """Trace a module.

    Args:
        module: In evaluation mode, on the CPU.
        inputs: Names and widths of its inputs, (batch, width) each.
        keep_weights: Keep every parameter under its own name instead of folding some into constants.
    """
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            module,
            tuple(torch.zeros(2, width) for width in inputs.values()),
            input_names=list(inputs),
            output_names=[OUTPUT_NAME],
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


def _require_parity(
    module: nn.Module,
    model: onnx.ModelProto,
    trained: TrainedPolicy,
    recorded: Array | None,
    tolerance: float,
) -> Parity:
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    none = np.zeros((0, trained.spec.obs_dim), np.float32)
    real = none if recorded is None else np.ascontiguousarray(recorded, np.float32)
    drawn, extreme = _random_obs(trained), _extreme_obs(trained)
    on_real, on_drawn = _difference(module, session, real), _difference(module, session, drawn)
    on_extreme, rounding = _difference(module, session, extreme), _rounding(module, extreme)
    worst = max(on_real, on_drawn)
    allowed = tolerance + ROUNDING_FACTOR * rounding
    if not worst <= tolerance or not on_extreme <= allowed:
        raise ParityError(
            f"ONNX Runtime differs from PyTorch by {worst:.3g} on recorded and random observations "
            f"(tolerance {tolerance:g}) and by {on_extreme:.3g} on extreme ones (allowed {allowed:.3g}). "
            f"Nothing was written. If the actions are large numbers, such as torques, raise --tolerance; "
            f"else report it."
        )
    return Parity(
        max_abs=worst,
        tolerance=tolerance,
        max_abs_recorded=on_real,
        max_abs_random=on_drawn,
        max_abs_extreme=on_extreme,
        extreme_rounding=rounding,
        samples_recorded=len(real),
        samples_random=len(drawn),
        samples_extreme=len(extreme),
        batch_sizes=(1, BATCH),
    )


def _difference(module: nn.Module, session: Any, obs: Array) -> float:
    """Largest |ONNX Runtime - PyTorch| over `obs`, (N, S), one by one and in batches; inf for a NaN."""
    worst = 0.0
    for size in (1, BATCH):
        for start in range(0, len(obs), size):
            batch = obs[start : start + size]
            with torch.inference_mode():
                expected = module(torch.from_numpy(batch)).numpy()
            gap = np.abs(session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] - expected)
            worst = max(worst, float(gap.max()) if np.isfinite(gap).all() else np.inf)
    return worst


def _rounding(module: nn.Module, obs: Array) -> float:
    """Largest |float32 - float64| of PyTorch itself over `obs`, (N, S)."""
    exact = copy.deepcopy(module).double()
    with torch.inference_mode():
        single = module(torch.from_numpy(obs)).double()
        double = exact(torch.from_numpy(obs.astype(np.float64)))
    return float((single - double).abs().max())


def _random_obs(trained: TrainedPolicy) -> Array:
    rng = np.random.default_rng(0)
    spread = rng.uniform(-3.0, 3.0, (RANDOM_SAMPLES, trained.spec.obs_dim)).astype(np.float32)
    return trained.stats.mean + trained.stats.std * spread


def _extreme_obs(trained: TrainedPolicy) -> Array:
    rng = np.random.default_rng(1)
    stats, size = trained.stats, trained.spec.obs_dim
    draws = [rng.standard_normal((EXTREME_SAMPLES, size)).astype(np.float32) * s for s in EXTREME_SCALES]
    low = np.array([v for e in trained.spec.observation for v in e.low], np.float32)
    high = np.array([v for e in trained.spec.observation for v in e.high], np.float32)
    corners = [np.where(np.isfinite(b), b, stats.mean).astype(np.float32)[None] for b in (low, high)]
    return np.concatenate([stats.mean + stats.std * d for d in draws] + corners + [np.zeros((1, size), np.float32)])


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
