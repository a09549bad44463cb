"""A run folder: resolved config, metrics, TensorBoard events and the picture of the learning curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from torch.utils.tensorboard import SummaryWriter

from robot_rl.config import save_yaml, to_mapping
from robot_rl.data.durable import FolderLock, write_synced
from robot_rl.errors import ConfigError, DataError


def require_intervals(**intervals: int) -> None:
    """Refuse intervals below 1, by the names of their options.

    Raises:
        ConfigError: Naming the first.
    """
    for name, value in intervals.items():
        if value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")


class RunLog:
    """Scalars of one run: `metrics.jsonl`, TensorBoard and, if asked for, W&B. Owns the folder until it is closed.

    Args:
        path: Run folder; created.
        config: Resolved config, saved as `config.yaml`.
        resume_step: Drop what was logged after this step, which may be 0; None for a new run.
        wandb: Log to Weights & Biases as well.
        unit: What steps count, for the plot.

    Raises:
        ConfigError: If W&B is asked for and not installed.
        DataError: If another process is at work on the run.
    """

    def __init__(
        self,
        path: Path,
        config: Any,
        *,
        resume_step: int | None = None,
        wandb: bool = False,
        unit: str = "gradient updates",
    ) -> None:
        service = _import_wandb() if wandb else None  # before anything is written
        kept = [row for row in read_metrics(path) if resume_step is not None and row["step"] <= resume_step]
        self._lock = FolderLock(path, "Run folder")
        self.path = path
        self._unit = unit
        began = replace(config, resume=False) if getattr(config, "resume", False) else config
        save_yaml(began, path / "config.yaml")  # given back with --config it begins a run, however this one was begun
        self._file = path / "metrics.jsonl"
        write_synced(self._file, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._board = SummaryWriter(path / "tensorboard", purge_step=resume_step)
        self._wandb = None
        if service is not None:
            self._wandb = service.init(
                project="robot-rl", name=path.name, dir=str(path), config=to_mapping(config), resume="allow"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record named scalars at `step`."""
        with self._file.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(scalars), step=step)

    def close(self) -> None:
        """Flush everything, draw `learning_curve.png` and let others have the folder."""
        try:
            self._board.close()
            if self._wandb is not None:
                self._wandb.finish()
            plot_curves(self.path, self._unit)
        finally:
            self._lock.release()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a run's `metrics.jsonl`; empty where there is none. A last one that a full disk cut short is left out.

    Raises:
        DataError: If another one is damaged.
    """
    file = path / "metrics.jsonl"
    rows: list[dict[str, float]] = []
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            if number < len(lines):
                raise DataError(f"{file}, line {number} is damaged ({error}). Remove the line.") from error
    return rows


def plot_curves(path: Path, unit: str = "gradient updates") -> Path:
    """Draw every scalar of a run over its steps into `learning_curve.png`."""
    rows = read_metrics(path)
    names = sorted({k for row in rows for k in row} - {"step"}, key=lambda n: (not n.startswith("eval"), n))
    names = [n for n in names if not n.endswith(("_low", "_high"))][:12]
    columns = min(3, max(1, len(names)))
    lines = -(-len(names) // columns) if names else 1
    figure, axes = plt.subplots(lines, columns, figsize=(4.2 * columns, 2.9 * lines), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps = [p[0] for p in points]
        axis.plot(steps, [p[1] for p in points], marker="." if len(points) < 30 else None)
        band = [(r["step"], r[f"{name}_low"], r[f"{name}_high"]) for r in rows if f"{name}_low" in r]
        if band:
            axis.fill_between(*zip(*band, strict=True), alpha=0.25, linewidth=0)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(unit, fontsize=8)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(names) :]:
        axis.axis("off")
    figure.tight_layout()
    target = path / "learning_curve.png"
    figure.savefig(target, dpi=110)
    plt.close(figure)
    return target


def _import_wandb() -> Any:
    try:
        import wandb  # noqa: PLC0415 - optional  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("--wandb needs the package: pip install -e '.[wandb]'.") from error
    return wandb
