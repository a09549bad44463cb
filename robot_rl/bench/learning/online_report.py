"""What `robot-rl bench online` leaves beside its runs: summary, report and curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from rich.table import Table

from robot_rl.bench.learning.online_recipe import OnlineRecipe
from robot_rl.bench.learning.runs import Evaluation, FinishedRun
from robot_rl.bench.machine import machine
from robot_rl.config import to_mapping
from robot_rl.errors import DataError
from robot_rl.evaluate import bootstrap_interval

mpl.use("Agg")
import matplotlib.pyplot as plt

IN_A_ROW = 3
FEW, COLOURS = 6, 10  # arms that a plot shows side by side; colours before they come again


def write_results(out: Path, recipe: OnlineRecipe, runs: Sequence[FinishedRun], data: str) -> dict[str, Any]:
    """Write OUT/results.json, results.md and results.png.

    Args:
        out: Folder of the bench.
        recipe: What was asked for.
        runs: Finished runs.
        data: Name of the logs.
    """
    by_arm = {arm: sorted((r for r in runs if r.arm == arm), key=lambda r: r.seed) for arm in recipe.arms}
    arms = {arm: _summary(recipe, found) for arm, found in by_arm.items() if found}
    result = {"recipe": to_mapping(recipe), "data": data, "machine": machine(), "arms": arms}
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "results.md").write_text(_markdown(recipe, result))
    _plot(recipe, arms, out / "results.png")
    return result


def table(recipe: OnlineRecipe, arms: dict[str, Any]) -> Table:
    """The arms for people."""
    found = Table(*_columns(recipe), title=recipe.name, title_justify="left")
    for row in _rows(recipe, arms):
        found.add_row(*row)
    return found


def _summary(recipe: OnlineRecipe, runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Of an arm's finished runs."""
    steps = [point.interactions for point in runs[0].curve]
    curves = [[_measured(recipe, run, point) for point in run.curve] for run in runs]
    what = recipe.measure
    table = np.asarray(curves)  # (seeds, evaluations)
    mean = table.mean(0)
    return {
        "seeds": [run.seed for run in runs],
        "steps": steps,
        f"{what}_by_seed": table.tolist(),
        what: mean.tolist(),
        f"{what}_interval_95": [bootstrap_interval(column) for column in table.T],
        "start": float(mean[0]),
        "end": float(mean[-1]),
        "best": float(mean.max()),
        "over_run": float(mean.mean()),
        "over_run_interval_95": bootstrap_interval(table.mean(1)),
        "deepest_fall_of_the_mean": float(max(0.0, mean[0] - mean.min())),
        "deepest_fall_by_seed": np.maximum(0.0, table[:, 0] - table.min(1)).tolist(),
        "interactions_to": {
            _told(recipe, level, 0): [interactions_to(steps, curve, level) for curve in curves]
            for level in recipe.thresholds
        },
        "weights": _mean_weights(runs),
        "earned_by_seed": [run.facts.get("earned", {}) for run in runs],
        "seconds": [run.seconds for run in runs],
        "processors": sorted({run.processor for run in runs}),
    }


def _measured(recipe: OnlineRecipe, run: FinishedRun, point: Evaluation) -> float:
    """What is compared.

    Raises:
        DataError: If that is a success of which the environment tells nothing.
    """
    if recipe.measure == "return":
        return point.return_
    if point.success is None:
        raise DataError(
            f"{run.arm}, seed {run.seed}: the environment tells no success. Compare returns: "
            f"`measure: return` in the recipe, with thresholds to suit."
        )
    return point.success


def _told(recipe: OnlineRecipe, value: float, digits: int = 1) -> str:
    """A success in per cent, a return as it is."""
    return f"{value:.{digits}%}" if recipe.measure == "success" else f"{value:,.0f}"


def _mean_weights(runs: Sequence[FinishedRun]) -> dict[str, list[float]]:
    """Over seeds."""
    return {
        name: np.mean([run.facts["weights"][name] for run in runs], axis=0).tolist()
        for name in runs[0].facts.get("weights", {})
    }


def interactions_to(steps: Sequence[int], curve: Sequence[float], level: float) -> int | None:
    """Interactions at the first of three evaluations in a row at or above `level`; None where there is none."""
    above = np.asarray(curve) >= level
    for i in range(len(above) - IN_A_ROW + 1):
        if above[i : i + IN_A_ROW].all():
            return int(steps[i])
    return None


def _columns(recipe: OnlineRecipe) -> list[str]:
    return [
        "arm", "seeds", "start", "end", "mean of all evaluations", "deepest fall of the mean", "of a seed",
        *(f"interactions to {_told(recipe, level, 0)}, by seed" for level in recipe.thresholds), "minutes",
    ]  # fmt: skip


def _rows(recipe: OnlineRecipe, arms: dict[str, Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    show = partial(_told, recipe)

    def between(value: float, interval: tuple[float, float], arm: dict[str, Any]) -> str:
        return show(value) + (f" [{show(interval[0])}, {show(interval[1])}]" if len(arm["seeds"]) > 1 else "")

    for name, arm in arms.items():
        reached = [
            ", ".join(
                f"> {arm['steps'][-1]:,}" if n is None else f"{n:,}"
                for n in arm["interactions_to"][_told(recipe, level, 0)]
            )
            for level in recipe.thresholds
        ]
        rows.append(
            [
                name,
                ", ".join(map(str, arm["seeds"])),
                show(arm["start"]),
                between(arm["end"], arm[f"{recipe.measure}_interval_95"][-1], arm),
                between(arm["over_run"], arm["over_run_interval_95"], arm),
                show(arm["deepest_fall_of_the_mean"]),
                show(max(arm["deepest_fall_by_seed"])),
                *reached,
                f"{np.mean(arm['seconds']) / 60:.0f}",
            ]
        )
    return rows


def _markdown(recipe: OnlineRecipe, result: dict[str, Any]) -> str:
    columns = _columns(recipe)
    runs = sum(len(arm["seeds"]) for arm in result["arms"].values())
    wanted = len(recipe.runs)
    lines = [
        f"# {recipe.name}", "",
        *([f"**Partial: {runs} of {wanted} runs are finished.**", ""] if runs < wanted else []),
        recipe.about, "",
        f"{recipe.finetune.get('eval_episodes', 20)} episodes an evaluation; intervals are 95 % bootstraps over an "
        f"arm's seeds. Environment: {recipe.finetune.get('env', 'that of the data')}. Data: {result['data']}. Machine: "
        f"{result['machine']}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]  # fmt: skip
    lines += ["| " + " | ".join(row) + " |" for row in _rows(recipe, result["arms"])]
    weighed = {name: arm["weights"] for name, arm in result["arms"].items() if arm["weights"]}
    if weighed:
        lines += ["", "Mean weights of the sources over the first and the last tenth of the run:", ""]
        lines += [
            f"- {name}: " + ", ".join(f"{source} {first:.2f} → {last:.2f}" for source, (first, last) in weights.items())
            for name, weights in weighed.items()
        ]
    tried = {name: arm for name, arm in result["arms"].items() if any(arm["earned_by_seed"])}
    if tried:
        lines += ["", "Median returns on trial; the first was kept to:", ""]
        lines += [
            f"- {name}, seed {seed}: "
            + ", ".join(f"{source} {earned[source]:.0f}" for source in sorted(earned, key=earned.__getitem__)[::-1])
            for name, arm in tried.items()
            for seed, earned in zip(arm["seeds"], arm["earned_by_seed"], strict=True)
        ]
    return "\n".join(lines) + "\n"


def arm_look(number: int) -> dict[str, Any]:
    """Colour and line of a recipe's arm, by its place there; beyond the colours they come again, dashed."""
    return {"color": f"C{number % COLOURS}", "linestyle": "-" if number < COLOURS else "--"}


def _plot(recipe: OnlineRecipe, arms: dict[str, Any], target: Path) -> None:
    many = len(arms) > FEW
    figure, axis = plt.subplots(figsize=(10, 4.6) if many else (7, 4.2))
    for number, (name, arm) in enumerate(arms.items()):
        band = np.asarray(arm[f"{recipe.measure}_interval_95"])
        look = arm_look(number)
        axis.plot(arm["steps"], arm[recipe.measure], marker=".", label=name, **look)
        shade = 0.05 if many else 0.15
        axis.fill_between(arm["steps"], band[:, 0], band[:, 1], alpha=shade, color=look["color"], linewidth=0)
    axis.set_xlabel("interactions")
    axis.set_ylabel(recipe.measure)
    if recipe.measure == "success":
        axis.set_ylim(0, 1)
    axis.set_title(recipe.name, fontsize=10)
    axis.grid(alpha=0.3)
    if many:
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    else:
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)
