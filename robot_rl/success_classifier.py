"""Training a success classifier on labelled episodes, and showing how far it can be trusted.

Frames at success are the last ones of successful episodes; frames without it are all of failed episodes and the
earlier ones of successful episodes, but for a margin between them that belongs to neither. Episodes are divided in
three: weights, temperature, and the figures of the report each come from episodes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from robot_rl.calibration import Reliability, fit_temperature
from robot_rl.data.dataset import load_dataset
from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode
from robot_rl.data.success_net import SuccessNet, save_success_net, sigmoid
from robot_rl.errors import ConfigError, DataError
from robot_rl.nets.mlp import mlp
from robot_rl.spec import Array

mpl.use("Agg")
import matplotlib.pyplot as plt

FEWEST = 3  # episodes that succeeded: one for each third
SMALLEST_STD = 1e-4


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Learn to tell success from an observation."""

    data: Path  # dataset folder whose episodes are labelled
    out: Path  # run folder to write
    success_frames: int = 5  # last observations of a successful episode that show success
    margin: int = 10  # observations before those that are left out
    hidden: tuple[int, ...] = (64, 64)  # widths of hidden layers
    steps: int = 2000  # gradient steps
    batch_size: int = 256  # frames per step
    lr: float = 1e-3  # learning rate
    weight_decay: float = 1e-3  # L2 penalty
    seed: int = 0  # of weights, batches and the division of the episodes
    json: bool = False  # print one JSON object instead of text

    def __post_init__(self) -> None:
        if self.success_frames < 1 or self.margin < 0 or self.steps < 1 or self.batch_size < 1:
            raise ConfigError(
                f"--success-frames {self.success_frames}, --margin {self.margin}, --steps {self.steps} and "
                f"--batch-size {self.batch_size} must be at least 1, 0, 1 and 1."
            )


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Observations with their label.

    Args:
        obs: (N, S).
        success: (N,).
    """

    obs: Array
    success: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ClassifierReport:
    """Figures on the episodes that nothing was fitted to.

    Args:
        frames: How many.
        positives: Those at success.
        accuracy: At a probability of one half.
        false_alarms: Share of frames without success that are taken for it: rewards for nothing.
        error_before: Expected calibration error at a temperature of 1.
        reliability: With the temperature.
        temperature: That was found.
    """

    frames: int
    positives: int
    accuracy: float
    false_alarms: float
    error_before: float
    reliability: Reliability
    temperature: float

    def facts(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "held_out_frames": self.frames,
            "held_out_at_success": self.positives,
            "accuracy": self.accuracy,
            "false_alarms": self.false_alarms,
            "expected_calibration_error": self.reliability.error,
            "expected_calibration_error_uncalibrated": self.error_before,
        }


def train_classifier(config: ClassifierConfig) -> ClassifierReport:
    """Train, calibrate, judge, write the run.

    Raises:
        ConfigError: If `out` exists.
        DataError: If there are too few labelled episodes.
    """
    require_new(config.out, error=ConfigError)
    dataset = load_dataset(config.data)
    fitted, calibrating, judging = (frames_of(part, config) for part in thirds(list(dataset), config))
    net = _fit(fitted, config)
    temperature = fit_temperature(net.logits(calibrating.obs), calibrating.success)
    net = SuccessNet(layers=net.layers, mean=net.mean, std=net.std, temperature=temperature)
    report = judge(net, judging)
    save_success_net(net, dataset.spec, config.out, report.facts())
    _plot(report, config.out / "reliability.png")
    return report


def thirds(episodes: Sequence[Episode], config: ClassifierConfig) -> tuple[list[Episode], list[Episode], list[Episode]]:
    """Labelled episodes for weights (three fifths), temperature and report (a fifth each), by label.

    Raises:
        DataError: If fewer than three succeeded.
    """
    rng, parts = np.random.default_rng(config.seed), ([], [], [])
    won = [e for e in episodes if e.success is True]
    if len(won) < FEWEST:
        raise DataError(
            f"{config.data} has {len(won)} episodes labelled as successful of {len(episodes)}; at least {FEWEST} are "
            f"needed. Record some with `robot-rl record`, labelled by the environment or with y and n."
        )
    for group in (won, [e for e in episodes if e.success is False]):
        order = [group[i] for i in rng.permutation(len(group))]
        held = -(-len(group) // 5)  # rounded up
        for part, chosen in zip(parts, (order[2 * held :], order[:held], order[held : 2 * held]), strict=True):
            part.extend(chosen)
    return parts


def frames_of(episodes: Sequence[Episode], config: ClassifierConfig) -> Frames:
    """Labelled observations of `episodes`.

    Raises:
        DataError: If all show success.
    """
    pieces: list[Array] = []
    labels: list[NDArray[np.bool_]] = []
    for episode in episodes:
        seen = episode.observations[: episode.transitions + 1]
        if not episode.success:
            pieces.append(seen)
            labels.append(np.zeros(len(seen), bool))
            continue
        shown = seen[-config.success_frames :]
        before = seen[: max(0, len(seen) - config.success_frames - config.margin)]
        pieces += [before, shown]
        labels += [np.zeros(len(before), bool), np.ones(len(shown), bool)]
    frames = Frames(obs=np.concatenate(pieces), success=np.concatenate(labels))
    if frames.success.all():
        raise DataError(
            f"{config.data} shows no frame without success: no episode is labelled as failed, and successful ones are "
            f"no longer than --success-frames {config.success_frames} and --margin {config.margin} together. Lower "
            f"these, or record failures."
        )
    return frames


def judge(net: SuccessNet, frames: Frames) -> ClassifierReport:
    """How well `net` does on `frames`."""
    probability = net.probability(frames.obs)
    taken = probability >= 0.5
    without = ~frames.success
    return ClassifierReport(
        frames=len(taken),
        positives=int(frames.success.sum()),
        accuracy=float((taken == frames.success).mean()),
        false_alarms=float(taken[without].mean()) if without.any() else 0.0,
        error_before=Reliability.of(sigmoid(net.logits(frames.obs)), frames.success).error,
        reliability=Reliability.of(probability, frames.success),
        temperature=net.temperature,
    )


def _fit(frames: Frames, config: ClassifierConfig) -> SuccessNet:
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    mean, std = frames.obs.mean(0), np.maximum(frames.obs.std(0), SMALLEST_STD)
    obs = torch.from_numpy(((frames.obs - mean) / std).astype(np.float32))
    target = torch.from_numpy(frames.success.astype(np.float32))
    net = mlp(obs.shape[1], config.hidden, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    for _ in range(config.steps):
        picked = torch.randint(len(obs), (config.batch_size,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(net(obs[picked]).squeeze(1), target[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    linear = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    layers = tuple((layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linear)
    return SuccessNet(layers=layers, mean=mean, std=std)


def _plot(report: ClassifierReport, target: Path) -> None:
    found, figure = report.reliability, plt.figure(figsize=(4.4, 4.2))
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axis.scatter(found.said, found.found, s=8 + 60 * np.sqrt(found.count / max(1, found.count.max())))
    axis.set_xlabel("probability said")
    axis.set_ylabel("share of frames at success")
    axis.set_title(f"held-out episodes, calibration error {found.error:.3f}", fontsize=10)
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)
