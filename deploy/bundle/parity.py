"""Proof that the graph of a policy without memory computes what PyTorch does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from deploy.bundle.contract import INPUT_NAME, OUTPUT_NAME, Parity
from deploy.bundle.policy import runtime_session
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.errors import ParityError
from robot_rl.spec import Array

BATCH = 256
RANDOM_SAMPLES = 2048
EXTREME_SCALES = (10.0, 100.0, 1000.0)  # standard deviations
EXTREME_SAMPLES = 128  # of each scale
ROUNDING_FACTOR = 4.0  # two float32 programs may each be off from float64, in opposite directions
SHAKE = 2.0**-22  # relative: float32 sums of some hundred products are about as far off
SHAKES = 8


def step_parity(
    module: nn.Module, model: onnx.ModelProto, trained: TrainedPolicy, recorded: Sequence[Array], tolerance: float
) -> Parity:
    """Compare action by action.

    Args:
        module: The policy, in evaluation mode, on the CPU.
        model: Its graph.
        trained: Where both come from.
        recorded: Observations of its data, (T, S) each.
        tolerance: Largest allowed absolute action difference, action units.

    Raises:
        ParityError: If they differ by more.
    """
    session = runtime_session(model.SerializeToString())
    real = np.concatenate([*recorded, np.zeros((0, trained.spec.obs_dim))]).astype(np.float32)
    drawn, extreme = random_obs(trained, RANDOM_SAMPLES), extreme_obs(trained)
    on_real, on_drawn = _difference(module, session, real), _difference(module, session, drawn)
    on_extreme, rounding = _difference(module, session, extreme), _rounding(module, extreme)
    worst = max(on_real, on_drawn)
    allowed = tolerance + ROUNDING_FACTOR * rounding
    if not worst <= tolerance or not on_extreme <= allowed < np.inf:  # what is no number is no rounding
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


def random_obs(trained: TrainedPolicy, count: int) -> Array:
    """Observations within 3 standard deviations, (count, S)."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(-3.0, 3.0, (count, trained.spec.obs_dim)).astype(np.float32)
    return trained.stats.mean + trained.stats.std * spread


def extreme_obs(trained: TrainedPolicy) -> Array:
    """Observations 10 to 1000 standard deviations out, at the bounds, and zeros, (N, S)."""
    rng = np.random.default_rng(1)
    stats, size = trained.stats, trained.spec.obs_dim
    draws = [rng.standard_normal((EXTREME_SAMPLES, size)).astype(np.float32) * s for s in EXTREME_SCALES]
    low = np.array([v for e in trained.spec.observation for v in e.low], np.float32)
    high = np.array([v for e in trained.spec.observation for v in e.high], np.float32)
    corners = [np.where(np.isfinite(b), b, stats.mean).astype(np.float32)[None] for b in (low, high)]
    return np.concatenate([stats.mean + stats.std * d for d in draws] + corners + [np.zeros((1, size), np.float32)])


def largest(difference: NDArray[Any]) -> float:
    """Largest absolute number, 0 where there are none; inf where one is not finite."""
    if not np.isfinite(difference).all():
        return np.inf
    return float(np.abs(difference).max(initial=0.0))


def _difference(module: nn.Module, session: Any, obs: Array) -> float:
    """Largest |ONNX Runtime - PyTorch| over `obs`, (N, S), one by one and in batches; inf for a NaN."""
    worst = 0.0
    for size in (1, BATCH):
        for start in range(0, len(obs), size):
            batch = obs[start : start + size]
            with torch.inference_mode():
                expected = module(torch.from_numpy(batch)).numpy()
            worst = max(worst, largest(session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] - expected))
    return worst


def shaken(module: nn.Module, draw: int) -> nn.Module:
    """`module` in float64 with every weight off by as much as rounding may make of it, at random."""
    other = copy.deepcopy(module).double()
    with torch.no_grad():
        for number, values in enumerate([*other.parameters(), *other.buffers()]):
            if values.is_floating_point():
                values.copy_(torch.from_numpy(shake(values.numpy(), draw * 1000 + number)))
    return other


def shake(values: NDArray[Any], draw: int) -> NDArray[np.float64]:
    """`values` in float64, each off by as much as rounding may make of it, at random."""
    return np.asarray(values * (1.0 + SHAKE * np.random.default_rng(draw).uniform(-1.0, 1.0, values.shape)))


def _rounding(module: nn.Module, obs: Array) -> float:
    """How far float32 may be off from float64 over `obs`, (N, S), whatever the order of its sums.

    One float32 program says little of another: far out, where large numbers cancel, one may be right by luck and the
    other ten times as far off. So the function itself is shaken: how much do its actions move?
    """
    given = obs.astype(np.float64)
    with torch.inference_mode():
        exact = copy.deepcopy(module).double()(torch.from_numpy(given)).numpy()
        own = module(torch.from_numpy(obs)).numpy()
        moved = [shaken(module, k)(torch.from_numpy(shake(given, k))).numpy() for k in range(SHAKES)]
    return max(largest(found - exact) for found in (own, *moved))
