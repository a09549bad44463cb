"""What training a world model leaves for people: report.md, report.json and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from robot_rl.config import to_mapping
from robot_rl.data.episode import Episode
from robot_rl.spec import Array
from robot_rl.world_models.judge import Verdict
from robot_rl.world_models.model import WorldModel

ROLLOUT_STEPS = 40  # of the picture of predicted beside real
SHOWN = 6  # dimensions in it


def write_report(
    out: Path, model: WorldModel, verdict: Verdict, held_out: Sequence[Episode], *, title: str, epochs: int
) -> Path:
    """Write OUT/report.md with its pictures and OUT/report.json; returns the former."""
    names = model.spec.obs_names
    _plot_dimensions(out / "error_by_dimension.png", verdict, names)
    _plot_open_loop(out / "open_loop.png", verdict)
    _plot_calibration(out / "calibration.png", verdict)
    _plot_rollout(out / "rollout.png", model, max(held_out, key=lambda e: e.transitions), verdict)
    (out / "report.json").write_text(json.dumps(to_mapping(verdict), indent=1) + "\n")
    target = out / "report.md"
    target.write_text(_text(title, verdict, names, epochs))
    return target


def _text(title: str, verdict: Verdict, names: list[str], epochs: int) -> str:
    ours, naive = verdict.error("model"), verdict.error(verdict.best_naive)
    word = "beats" if verdict.usable else "does not beat"
    ended, hit, false = verdict.ends
    lines = [
        f"# World model: {title}\n",
        f"Over {verdict.transitions:,} held-out transitions, after {epochs} epochs, the model errs by {ours:.3f} "
        f"std a step, the best naive predictor ({verdict.best_naive}) by {naive:.3f}: it **{word}** it.\n",
        "Errors are root mean squares over dimensions, in standard deviations (std) of the observations. The model's "
        "are of what augmentation is given: the ensemble's mean unless told otherwise, the VAE's draw.\n",
        "## Open loop\n",
        "Fed with its own predictions and the real actions:\n",
        "| steps | " + " | ".join(verdict.open_loop) + " |",
        "|---" * (len(verdict.open_loop) + 1) + "|",
    ]
    for row, k in enumerate(verdict.horizons):
        lines.append(f"| {k} | " + " | ".join(f"{e[row]:.3f}" for e in verdict.open_loop.values()) + " |")
    lines += [
        "\n![open loop](open_loop.png)\n",
        "## One step, each dimension\n",
        "| dimension | " + " | ".join(verdict.by_dimension) + " |",
        "|---" * (len(verdict.by_dimension) + 1) + "|",
    ]
    for index, name in enumerate(names):
        lines.append(f"| {name} | " + " | ".join(f"{e[index]:.3f}" for e in verdict.by_dimension.values()) + " |")
    lines += [
        "\n![error by dimension](error_by_dimension.png)\n",
        "## Reward and termination\n",
        f"Reward error {verdict.reward['model']:.3f} of its standard deviation (predicting the mean: "
        f"{verdict.reward['mean']:.3f}). Of {ended} terminations {hit} are predicted, "
        f"and {false} where there was none.\n",
        "## Uncertainty\n",
        "Calibrated on the first half of the held-out transitions, measured on the second. Rank correlation with the "
        f"error: {verdict.rank_correlation:.2f}. Values inside the predicted interval:\n",
        "| nominal | observed |\n|---|---|",
        *(f"| {nominal} | {observed:.1%} |" for nominal, observed in verdict.coverage.items()),
        "\n![calibration](calibration.png)\n",
        "## Predicted beside real\n",
        "A held-out episode from its first state, real actions, predictions fed back:\n",
        "![rollout](rollout.png)",
    ]
    return "\n".join(lines) + "\n"


def _plot_dimensions(target: Path, verdict: Verdict, names: list[str]) -> None:
    figure, axis = plt.subplots(figsize=(max(5.0, 0.45 * len(names)), 3.6))
    width = 0.8 / len(verdict.by_dimension)
    for place, (name, errors) in enumerate(verdict.by_dimension.items()):
        axis.bar(np.arange(len(names)) + place * width, errors, width, label=name)
    axis.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, rotation=90, fontsize=7)
    axis.set_ylabel("one-step error, std")
    _finish(figure, target, [axis])


def _plot_open_loop(target: Path, verdict: Verdict) -> None:
    figure, axis = plt.subplots(figsize=(5.0, 3.4))
    for name, errors in verdict.open_loop.items():
        axis.plot(verdict.horizons, errors, marker=".", label=name)
    axis.set_xlabel("steps")
    axis.set_ylabel("error, std")
    axis.set_yscale("log")
    _finish(figure, target, [axis])


def _plot_calibration(target: Path, verdict: Verdict) -> None:
    figure, axis = plt.subplots(figsize=(4.0, 3.6))
    expected, observed = zip(*verdict.reliability, strict=True)
    axis.plot(expected, observed, marker=".", label="tenths of the transitions")
    top = max(*expected, *observed)
    axis.plot([0, top], [0, top], linestyle=":", color="grey", label="ideal")
    axis.set_xlabel("uncertainty, std")
    axis.set_ylabel("error, std")
    _finish(figure, target, [axis])


@torch.no_grad()
def _plot_rollout(target: Path, model: WorldModel, episode: Episode, verdict: Verdict) -> None:
    steps = min(ROLLOUT_STEPS, episode.transitions)
    draws = torch.Generator(model.device).manual_seed(0)
    actions = torch.tensor(episode.actions[:steps], device=model.device)
    obs = torch.tensor(episode.observations[:1], device=model.device)
    states: list[Array] = [obs[0].cpu().numpy()]
    for t in range(steps):
        obs = model.step(obs, actions[t : t + 1], draws).next_obs
        states.append(obs[0].cpu().numpy())
    predicted = np.stack(states)
    naive = np.asarray(verdict.by_dimension["last state"])
    shown = np.sort(np.argsort(-naive)[:SHOWN])  # those that change most
    units = [entry.unit for entry in model.spec.observation for _ in range(entry.size)]
    figure, axes = plt.subplots(-(-len(shown) // 3), min(3, len(shown)), figsize=(11, 4.6), squeeze=False)
    for axis, dimension in zip(axes.flat, shown, strict=False):
        axis.plot(episode.observations[: steps + 1, dimension], label="real")
        axis.plot(predicted[:, dimension], linestyle="--", label="predicted")
        axis.set_title(model.spec.obs_names[dimension], fontsize=8)
        axis.set_xlabel("steps", fontsize=8)
        axis.set_ylabel(units[dimension], fontsize=8)
    for axis in list(axes.flat)[len(shown) :]:
        axis.axis("off")
    _finish(figure, target, list(axes.flat)[: len(shown)])


def _finish(figure: Any, target: Path, axes: Sequence[Any]) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)
