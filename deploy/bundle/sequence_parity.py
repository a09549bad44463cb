"""Proof, over sequences, that the graph of a policy with a memory computes what PyTorch does.

Each side feeds its own memory back, so a fault in it adds up as it would on a robot. Two float32 programs cannot
stay together where the policy itself amplifies rounding: how much it does is measured, PyTorch against float64
over the same sequences, and allowed for within limits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from deploy.bundle.contract import INPUT_NAME, NEXT_STATE_NAME, NOISE_NAME, OUTPUT_NAME, STATE_NAME, Parity
from deploy.bundle.parity import ROUNDING_FACTOR, SHAKES, extreme_obs, largest, random_obs, shake, shaken
from deploy.bundle.policy import runtime_session
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.errors import ParityError
from robot_rl.nets.recurrent import RecurrentPolicy
from robot_rl.spec import Array

TOGETHER = 8  # sequences in one batch
RANDOM_SEQUENCES, RANDOM_STEPS = 4, 200
MOST_ROUNDING = 100.0  # tolerances that rounding may add over a sequence

Numbers = NDArray[Any]  # float32, or float64 for what is exact
Feed = Mapping[str, Numbers]
Step = Callable[[Feed], tuple[Numbers, Numbers]]
"""What goes into the graph by name, (N, width) each -> action (N, A) and memory (N, M)."""


@dataclass(frozen=True)
class Walk:
    """What came out along sequences.

    Args:
        action: (T, N, A).
        memory: (T, N, M).
    """

    action: Numbers
    memory: Numbers


@dataclass(frozen=True)
class Gap:
    """Largest absolute differences; inf where something is not finite."""

    action: float = 0.0
    memory: float = 0.0

    def __or__(self, other: Gap) -> Gap:
        return Gap(max(self.action, other.action), max(self.memory, other.memory))


def torch_step(module: nn.Module) -> Step:
    """A step by PyTorch."""

    def step(feed: Feed) -> tuple[Numbers, Numbers]:
        given = [torch.from_numpy(feed[name]) for name in (INPUT_NAME, STATE_NAME, NOISE_NAME) if name in feed]
        with torch.inference_mode():
            action, memory = module(*given)
        return action.numpy(), memory.numpy()

    return step


def onnx_step(session: Any) -> Step:
    """A step by ONNX Runtime."""

    def step(feed: Feed) -> tuple[Numbers, Numbers]:
        action, memory = session.run([OUTPUT_NAME, NEXT_STATE_NAME], dict(feed))
        return action, memory

    return step


def walk(step: Step, inputs: Feed, memory: Numbers) -> Walk:
    """Go through sequences, the memory fed back.

    Args:
        step: One program.
        inputs: The others by name, (T, N, width) each.
        memory: At the beginning, (N, M).
    """
    actions: list[Numbers] = []
    memories: list[Numbers] = []
    for t in range(len(inputs[INPUT_NAME])):
        action, memory = step({STATE_NAME: memory, **{name: values[t] for name, values in inputs.items()}})
        actions.append(action)
        memories.append(memory)
    return Walk(np.stack(actions), np.stack(memories))


def gap(one: Walk, other: Walk) -> Gap:
    """How far two programs came apart."""
    return Gap(largest(one.action - other.action), largest(one.memory - other.memory))


def sequence_parity(
    module: RecurrentPolicy, model: onnx.ModelProto, trained: TrainedPolicy, recorded: Sequence[Array], tolerance: float
) -> Parity:
    """Compare sequence by sequence, each from an empty memory.

    Args:
        module: The policy, in evaluation mode, on the CPU.
        model: Its graph.
        trained: Where both come from.
        recorded: Observations of episodes of its data, in order, (T, S) each.
        tolerance: Largest allowed absolute difference, action units; for the memory the same, or of its largest
            number where that is above 1. What rounding adds along a sequence is allowed on top.

    Raises:
        ParityError: If they differ by more.
    """
    compare = _Compare(module, model)
    drawn = np.split(random_obs(trained, RANDOM_SEQUENCES * RANDOM_STEPS), RANDOM_SEQUENCES)
    on_real, on_drawn = compare.along(recorded), compare.along(drawn)
    extreme = extreme_obs(trained)
    on_extreme, rounding = compare.once(extreme)
    found, along = on_real | on_drawn, compare.rounding
    scale = max(1.0, compare.largest)
    allowed = Gap(_allowed(tolerance, along.action), _allowed(tolerance * scale, along.memory))
    beyond = Gap(tolerance + ROUNDING_FACTOR * rounding.action, tolerance * scale + ROUNDING_FACTOR * rounding.memory)
    if not (_within(found, allowed) and _within(on_extreme, beyond)):
        raise ParityError(
            f"ONNX Runtime differs from PyTorch by {found.action:.3g} in actions and {found.memory:.3g} in the memory "
            f"over recorded and random sequences (allowed {allowed.action:.3g} and {allowed.memory:.3g}), and by "
            f"{on_extreme.action:.3g} and {on_extreme.memory:.3g} on extreme observations (allowed "
            f"{beyond.action:.3g} and {beyond.memory:.3g}). Nothing was written. PyTorch's own rounding adds up to "
            f"{along.action:.3g} and {along.memory:.3g}: where that is large the policy amplifies it, and only a "
            f"larger --tolerance lets it pass; else report it."
        )
    return Parity(
        max_abs=found.action,
        tolerance=allowed.action,
        max_abs_recorded=on_real.action,
        max_abs_random=on_drawn.action,
        max_abs_extreme=on_extreme.action,
        extreme_rounding=rounding.action,
        samples_recorded=sum(map(len, recorded)),
        samples_random=sum(map(len, drawn)),
        samples_extreme=len(extreme),
        batch_sizes=(1, *sorted({len(s[:TOGETHER]) for s in (drawn, recorded) if len(s) > 1})),
        sequences=len(recorded) + len(drawn),
        max_abs_memory=found.memory,
        tolerance_memory=allowed.memory,
    )


class _Compare:
    """Both programs, and PyTorch in float64 as a third."""

    def __init__(self, module: RecurrentPolicy, model: onnx.ModelProto) -> None:
        self._module = module
        self._width = module.state_dim
        self._ours = torch_step(module)
        self._exact = torch_step(copy.deepcopy(module).double())
        self._theirs = onnx_step(runtime_session(model.SerializeToString()))
        self.rounding = Gap()  # of PyTorch, along all sequences so far
        self.largest = 0.0  # number of the memory
        self._met: list[Numbers] = [np.zeros((1, self._width), np.float32)]  # memories, (n, M) each

    def along(self, sequences: Sequence[Array]) -> Gap:
        """Sequences of observations, (T, S) each, one by one and several at once."""
        found = Gap()
        for sequence in sequences:
            found |= self._walk(sequence[:, None])
        return found | self._walk(_together(sequences[:TOGETHER])) if len(sequences) > 1 else found

    def once(self, obs: Array) -> tuple[Gap, Gap]:
        """Single steps from memories met along the way, for `obs`, (N, S): the gap, and what rounding may come to."""
        met = np.concatenate(self._met)
        memory = met[np.arange(len(obs)) % len(met)]
        found = Gap()
        for rows in (slice(None), *(slice(i, i + 1) for i in range(len(obs)))):
            feed = {INPUT_NAME: obs[None, rows]}
            found |= gap(walk(self._ours, feed, memory[rows]), walk(self._theirs, feed, memory[rows]))
        exact = self._exactly(obs[None], memory)
        rounding = gap(walk(self._ours, {INPUT_NAME: obs[None]}, memory), exact)
        for k in range(SHAKES):
            moved = walk(torch_step(shaken(self._module, k)), {INPUT_NAME: shake(obs, k)[None]}, shake(memory, k))
            rounding |= gap(moved, exact)
        return found, rounding

    def _walk(self, obs: Array) -> Gap:
        """(T, N, S), from empty memories."""
        empty = np.zeros((obs.shape[1], self._width), np.float32)
        ours = walk(self._ours, {INPUT_NAME: obs}, empty)
        self.rounding |= gap(ours, self._exactly(obs, empty))
        self.largest = max(self.largest, largest(ours.memory))
        self._met = [*self._met, ours.memory[-1]][:TOGETHER]
        return gap(ours, walk(self._theirs, {INPUT_NAME: obs}, empty))

    def _exactly(self, obs: Array, memory: Numbers) -> Walk:
        return walk(self._exact, {INPUT_NAME: obs.astype(np.float64)}, memory.astype(np.float64))


def _together(sequences: Sequence[Array]) -> Array:
    """Sequences as one batch, (T, N, S); short ones end with their last observation repeated."""
    steps = max(map(len, sequences))
    return np.stack([s[np.minimum(np.arange(steps), len(s) - 1)] for s in sequences], 1)


def _allowed(tolerance: float, rounding: float) -> float:
    return tolerance + min(ROUNDING_FACTOR * rounding, MOST_ROUNDING * tolerance)


def _within(found: Gap, allowed: Gap) -> bool:
    return found.action <= allowed.action < np.inf and found.memory <= allowed.memory < np.inf
