"""Which source was found similar, over a run and over an episode."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from robot_rl.algorithms.student import Student
from robot_rl.data.episode import Episode
from robot_rl.run import read_metrics

mpl.use("Agg")
import matplotlib.pyplot as plt

PLOT = "similarity.png"
WEIGHT = "transfer/w "  # how a source's mean weight is named among the metrics


@torch.no_grad()
def weights_over(student: Student, episode: Episode) -> Tensor | None:
    """w_k(t) in one episode, (T+1, K), without chance; None for a student without sources."""
    guide, device = student.guide, student.device
    if guide is None:
        return None
    obs = student.scaler.obs(torch.from_numpy(np.array(episode.observations)).to(device))[:, None]
    action = student.scaler.to_unit(torch.from_numpy(np.array(episode.actions)).to(device))[:, None]
    own = student.model.observe(obs, action, None, None).state
    return guide.similarity.weights(guide.features(obs, action), own)[:, 0].cpu()


def draw_weights(run: Path, student: Student, episode: Episode | None) -> Path | None:
    """Draw `RUN/similarity.png`: the mean weights over the run, and those over `episode`.

    Args:
        run: Run folder with its metrics.
        student: Whose weights they are.
        episode: Its latest whole one; None where there is none.

    Returns:
        The picture; None where there is nothing to draw.
    """
    told = [row for row in read_metrics(run) if any(name.startswith(WEIGHT) for name in row)]
    if not told:
        return None
    names = [name.removeprefix(WEIGHT) for name in told[-1] if name.startswith(WEIGHT)]
    over = None if episode is None else weights_over(student, episode)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    for number, name in enumerate(names):
        axes[0].plot([r["step"] for r in told], [r[WEIGHT + name] for r in told], label=name)
        if over is not None:
            axes[1].plot(over[:, number], label=name)
    axes[0].set_xlabel("interactions")
    axes[0].set_ylabel("mean weight of a source")
    axes[0].set_title("over the run", fontsize=10)
    axes[1].set_xlabel("control steps")
    axes[1].set_title("over its latest episode", fontsize=10)
    for axis in axes:
        axis.axhline(1 / len(names), color="grey", linestyle=":", linewidth=1)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    target = run / PLOT
    figure.savefig(target, dpi=110)
    plt.close(figure)
    return target
