"""A small network that tells from an observation how likely the task is achieved. Numpy alone: actors run it.

    RUN/classifier.json          spec, temperature, what was measured on episodes it has not seen
    RUN/classifier.safetensors   weights and the statistics observations are normalised with

p(s) = sigmoid(z(s) / T) with the temperature T of Guo et al. 2017 (arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from robot_rl.data.durable import write_synced
from robot_rl.data.spec_file import read_spec_file, write_spec_file
from robot_rl.errors import DataError
from robot_rl.spec import Array, Spec

META_FILE, WEIGHTS_FILE = "classifier.json", "classifier.safetensors"
Layers = tuple[tuple[Array, Array], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class SuccessNet:
    """A trained classifier.

    Args:
        layers: Weight (out, in) and bias (out,) of each; ReLU between them, one output.
        mean: Of observations, (S,).
        std: Of observations, (S,), above 0.
        temperature: Divides the logit; above 0.
    """

    layers: Layers
    mean: Array
    std: Array
    temperature: float = 1.0

    def logits(self, obs: Array) -> NDArray[np.float64]:
        """Before the temperature, (T, S) -> (T,)."""
        hidden = ((obs - self.mean) / self.std).astype(np.float32)
        for weight, bias in self.layers[:-1]:
            hidden = np.maximum(hidden @ weight.T + bias, 0.0)
        weight, bias = self.layers[-1]
        return (hidden @ weight.T + bias)[:, 0].astype(np.float64)

    def probability(self, obs: Array) -> NDArray[np.float64]:
        """Of success, (T, S) -> (T,)."""
        return sigmoid(self.logits(obs) / self.temperature)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic function, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def save_success_net(net: SuccessNet, spec: Spec, run: Path, facts: dict[str, Any]) -> None:
    """Write a classifier for robots of `spec`, with `facts` for people."""
    tensors = {"mean": net.mean, "std": net.std}
    for i, (weight, bias) in enumerate(net.layers):
        tensors |= {f"{i}.weight": np.ascontiguousarray(weight), f"{i}.bias": bias}
    run.mkdir(parents=True, exist_ok=True)
    write_synced(run / WEIGHTS_FILE, save(tensors))
    write_spec_file(run / META_FILE, spec, temperature=net.temperature, layers=len(net.layers), **facts)


def load_success_net(run: Path, spec: Spec) -> SuccessNet:
    """Read a classifier.

    Raises:
        DataError: If there is none, or it is damaged.
        SpecMismatch: If it is for another robot.
    """
    if not (run / META_FILE).is_file():
        raise DataError(f"No success classifier in {run}. Train one with `robot-rl success-classifier --out {run}`.")
    what = f"the success classifier in {run}"
    meta = read_spec_file(run / META_FILE, spec, what, "Train one on this robot's episodes.")
    try:
        tensors = load_file(run / WEIGHTS_FILE)
        layers = tuple((tensors[f"{i}.weight"], tensors[f"{i}.bias"]) for i in range(int(meta["layers"])))
        return SuccessNet(
            layers=layers, mean=tensors["mean"], std=tensors["std"], temperature=float(meta["temperature"])
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{run / WEIGHTS_FILE} is damaged ({error}). Train the classifier again.") from error
