"""Weights for actors: the exploring policy as ONNX, exported once and refilled for every version.

Tracing takes seconds, so it happens once. After that the trained numbers are written into the graph's
initialisers, which carry the parameters' names; every one that acts must be there, or nothing is sent. (A world
model's decoder does not.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import torch
from torch import nn

from deploy.bundle.contract import INPUT_NAME, METADATA_KEY, NOISE_NAME, OUTPUT_NAME, STATE_NAME, Contract, Parity
from deploy.bundle.export import WITH_MEMORY, to_onnx
from deploy.bundle.parity import largest
from deploy.bundle.policy import runtime_session
from deploy.bundle.sequence_parity import Gap, gap, onnx_step, torch_step, walk
from robot_rl.algorithms.agent import Agent
from robot_rl.errors import ParityError
from robot_rl.nets.recurrent import RecurrentBehaviour
from robot_rl.spec import Array

TOLERANCE = 1e-5  # action units, or of the largest action where that is above 1
SAMPLES = 256
STEPS = 16  # that a policy with a memory takes, in each of SAMPLES / STEPS sequences


class WeightExporter:
    """An agent's exploring policy as `policy.onnx` bytes.

    Args:
        agent: Whose weights are exported; read anew at each call.
        algorithm: Its learner's name.
        run: Name of the run.

    Raises:
        ParityError: If ONNX Runtime does not compute what PyTorch does, or a parameter is not in the graph.
    """

    def __init__(self, agent: Agent, algorithm: str, run: str) -> None:
        self._agent, self._algorithm, self._run = agent, algorithm, run
        spec = agent.spec
        module = _detached(agent)
        self._state_dim = module.state_dim if isinstance(module, RecurrentBehaviour) else 0
        inputs = {INPUT_NAME: spec.obs_dim, NOISE_NAME: spec.action_dim}
        if self._state_dim:
            inputs = {INPUT_NAME: spec.obs_dim, STATE_NAME: self._state_dim, NOISE_NAME: spec.action_dim}
            self._model = to_onnx(module, inputs, outputs=WITH_MEMORY, keep_weights=True)
        else:
            self._model = to_onnx(module, inputs, keep_weights=True)
        self._slots = {tensor.name: tensor for tensor in self._model.graph.initializer}
        missing = [name for name, _ in _numbers(module) if name not in self._slots]
        acting = _acting(module, missing, list(inputs.values()))
        if acting:
            raise ParityError(f"The traced policy lacks {', '.join(acting)}; its weights could not be updated.")
        self._parity = self._measure(module)

    def model(self, version: int) -> bytes:
        """The policy as it is now, its contract saying `version`."""
        for name, value in _numbers(self._agent.behaviour):
            if name in self._slots:
                self._slots[name].raw_data = value.detach().cpu().contiguous().numpy().tobytes()
        contract = Contract(
            spec=self._agent.spec,
            weight_version=version,
            algorithm=self._algorithm,
            run=self._run,
            stats_digest=self._agent.stats.digest,
            parity=self._parity,
            state_dim=self._state_dim,
        )
        onnx.helper.set_model_props(self._model, {METADATA_KEY: contract.to_json()})
        return self._model.SerializeToString()

    def _measure(self, module: nn.Module) -> Parity:
        spec, rng = self._agent.spec, np.random.default_rng(0)
        obs = (rng.normal(size=(SAMPLES, spec.obs_dim)) * self._agent.stats.std + self._agent.stats.mean).astype("f4")
        noise = rng.normal(size=(SAMPLES, spec.action_dim)).astype("f4")
        session = runtime_session(self._model.SerializeToString())
        if self._state_dim:
            rows = SAMPLES // STEPS
            feed = {INPUT_NAME: obs.reshape(STEPS, rows, -1), NOISE_NAME: noise.reshape(STEPS, rows, -1)}
            empty = np.zeros((rows, self._state_dim), np.float32)
            ours = walk(torch_step(module), feed, empty)
            found = gap(ours, walk(onnx_step(session), feed, empty))
            expected, memory = ours.action, ours.memory
        else:
            with torch.inference_mode():
                expected = module(torch.from_numpy(obs), torch.from_numpy(noise)).numpy()
            answer = session.run([OUTPUT_NAME], {INPUT_NAME: obs, NOISE_NAME: noise})[0]
            found, memory, rows = Gap(largest(answer - expected)), np.zeros(1, np.float32), 0
        allowed = Gap(_allowed(expected), _allowed(memory))
        if not (found.action <= allowed.action and found.memory <= allowed.memory):
            raise ParityError(
                f"ONNX Runtime differs from PyTorch by {found.action:.3g} on the exploring policy; allowed are "
                f"{allowed.action:.3g}. Its memory differs by {found.memory:.3g}; allowed are {allowed.memory:.3g}. "
                f"Please report it."
            )
        return Parity(
            max_abs=found.action,
            tolerance=allowed.action,
            max_abs_recorded=0.0,
            max_abs_random=found.action,
            max_abs_extreme=0.0,
            extreme_rounding=0.0,
            samples_recorded=0,
            samples_random=SAMPLES,
            samples_extreme=0,
            batch_sizes=(rows or SAMPLES,),
            sequences=rows,
            max_abs_memory=found.memory,
            tolerance_memory=allowed.memory,
        )


def _allowed(numbers: Array) -> float:
    return TOLERANCE * max(1.0, float(np.abs(numbers).max()))


def _acting(module: nn.Module, names: list[str], inputs: list[int]) -> list[str]:
    """Those among the named numbers of a module that what it returns depends on.

    A number acts if a gradient leads to it, even where that is zero, or if what is returned changes with it, as with
    one that only takes part in a choice.
    """
    tried, generator = copy.deepcopy(module), torch.Generator().manual_seed(0)
    numbers = {name: number for name, number in _numbers(tried) if name in names}
    given = [torch.randn(SAMPLES, width, generator=generator) for width in inputs]

    def returned() -> torch.Tensor:
        found = tried(*given)
        return torch.cat(found, 1) if isinstance(found, tuple) else found

    if not names:
        return []
    for number in numbers.values():
        number.requires_grad_(number.is_floating_point())
    led_to = [number for number in numbers.values() if number.requires_grad]
    out = returned()
    grads = torch.autograd.grad(out.sum(), led_to, allow_unused=True) if out.requires_grad else [None] * len(led_to)
    reached = {id(number) for number, grad in zip(led_to, grads, strict=True) if grad is not None}
    return [name for name, number in numbers.items() if id(number) in reached or _changes(number, returned, generator)]


@torch.no_grad()
def _changes(number: torch.Tensor, returned: Callable[[], torch.Tensor], generator: torch.Generator) -> bool:
    """Whether what is returned changes with a number; it is put back."""
    kept, before = number.clone(), returned()
    number.copy_(kept + torch.randn(number.shape, generator=generator).to(number.dtype))
    changed = not torch.equal(returned(), before)
    number.copy_(kept)
    return changed


def _detached(agent: Agent) -> nn.Module:
    return copy.deepcopy(agent.behaviour).cpu().float().eval()


def _numbers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
