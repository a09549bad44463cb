"""Weights for actors: the exploring policy as ONNX, exported once and refilled for every version.

Tracing takes seconds, so it happens once. After that the trained numbers are written into the graph's
initialisers, which carry the parameters' names; every one of them must be there, or nothing is sent.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from deploy.bundle.contract import INPUT_NAME, METADATA_KEY, NOISE_NAME, OUTPUT_NAME, Contract, Parity
from deploy.bundle.export import to_onnx
from deploy.bundle.policy import session_options
from robot_rl.algorithms.agent import Agent
from robot_rl.errors import ParityError

TOLERANCE = 1e-5  # action units, or of the largest action where that is above 1
SAMPLES = 256


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
        self._model = to_onnx(module, {INPUT_NAME: spec.obs_dim, NOISE_NAME: spec.action_dim}, keep_weights=True)
        self._slots = {tensor.name: tensor for tensor in self._model.graph.initializer}
        missing = [name for name, _ in _numbers(module) if name not in self._slots]
        if missing:
            raise ParityError(f"The traced policy lacks {', '.join(missing)}; its weights could not be updated.")
        self._parity = self._measure(module)

    def model(self, version: int) -> bytes:
        """The policy as it is now, its contract saying `version`."""
        for name, value in _numbers(self._agent.behaviour):
            self._slots[name].raw_data = value.detach().cpu().contiguous().numpy().tobytes()
        contract = Contract(
            spec=self._agent.spec,
            weight_version=version,
            algorithm=self._algorithm,
            run=self._run,
            stats_digest=self._agent.stats.digest,
            parity=self._parity,
        )
        onnx.helper.set_model_props(self._model, {METADATA_KEY: contract.to_json()})
        return self._model.SerializeToString()

    def _measure(self, module: nn.Module) -> Parity:
        spec, rng = self._agent.spec, np.random.default_rng(0)
        obs = (rng.normal(size=(SAMPLES, spec.obs_dim)) * self._agent.stats.std + self._agent.stats.mean).astype("f4")
        noise = rng.normal(size=(SAMPLES, spec.action_dim)).astype("f4")
        session = ort.InferenceSession(
            self._model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
        )
        with torch.inference_mode():
            expected = module(torch.from_numpy(obs), torch.from_numpy(noise)).numpy()
        found = session.run([OUTPUT_NAME], {INPUT_NAME: obs, NOISE_NAME: noise})[0]
        worst = float(np.abs(found - expected).max())
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if not worst <= allowed:
            raise ParityError(
                f"ONNX Runtime differs from PyTorch by {worst:.3g} on the exploring policy; allowed are {allowed:.3g}. "
                f"Please report it."
            )
        return Parity(
            max_abs=worst,
            tolerance=allowed,
            max_abs_recorded=0.0,
            max_abs_random=worst,
            max_abs_extreme=0.0,
            extreme_rounding=0.0,
            samples_recorded=0,
            samples_random=SAMPLES,
            samples_extreme=0,
            batch_sizes=(SAMPLES,),
        )


def _detached(agent: Agent) -> nn.Module:
    return copy.deepcopy(agent.behaviour).cpu().float().eval()


def _numbers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
