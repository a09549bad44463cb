"""What `robot-rl bench small-data` leaves beside its runs: summary, report and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from robot_rl.bench.aggregate import Interval, iqm_interval
from robot_rl.bench.machine import machine
from robot_rl.bench.online_report import IN_A_ROW, arm_look, interactions_to
from robot_rl.bench.runs import FinishedRun
from robot_rl.bench.small_data_recipe import SmallDataRecipe, Task
from robot_rl.config import to_mapping
from robot_rl.errors import DataError


class Reached(NamedTuple):
    """When a curve got to its threshold.

    Args:
        interactions: At the first of the evaluations that held; the budget where it was never reached.
        censored: It was never reached.
    """

    interactions: int
    censored: bool


def write_results(out: Path, recipe: SmallDataRecipe, runs: Sequence[FinishedRun], planned: int) -> dict[str, Any]:
    """Write OUT/results.json, report.md and curves.png.

    Args:
        out: Folder of the bench.
        recipe: What was asked for.
        runs: Finished runs.
        planned: Number of runs that the recipe asks for.
    """
    result: dict[str, Any] = {
        "recipe": to_mapping(recipe),
        "machine": machine(),
        "finished_runs": len(runs),
        "planned_runs": planned,
        "tasks": {task: _task_summary(recipe, task, runs) for task in _begun(recipe, runs)},
        "all": _overall(recipe, runs),
    }
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    _plot(out / "curves.png", recipe, runs)
    (out / "report.md").write_text(_markdown(recipe, result))
    return result


def score(task: Task, return_: float) -> float:
    """0 at the task's `low` return, 100 at its `high`."""
    return 100 * (return_ - task.low) / (task.high - task.low)


def _begun(recipe: SmallDataRecipe, runs: Sequence[FinishedRun]) -> dict[str, Task]:
    """The tasks of which a run is finished."""
    return {task: goal for task, goal in recipe.tasks.items() if any(run.task == task for run in runs)}


def _task_summary(recipe: SmallDataRecipe, task: str, runs: Sequence[FinishedRun]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    shared = _shared_budget(runs, task)
    for arm in recipe.arms:
        goal = recipe.tasks[task]
        curves = [_measured(r, goal) for r in runs if (r.task, r.arm) == (task, arm)]
        if not curves:
            continue
        scores = [[score(goal, v) for _, v in c] for c in curves]
        reached = [_reached(c, x, goal.threshold) for c, x in zip(curves, scores, strict=True)]
        found[arm] = {
            "seeds": len(curves),
            "interactions": [r.interactions for r in reached],
            "censored": [r.censored for r in reached],
            "median": _median(reached),
            "first_score": iqm_interval([np.asarray([x[0] for x in scores])])._asdict(),
            "final_score": iqm_interval([np.asarray([x[-1] for x in scores])])._asdict(),
            "final": float(np.mean([c[-1][1] for c in curves])),
            "mean_score": iqm_interval([np.asarray([_mean_score(c, goal, shared) for c in curves])])._asdict(),
            "seconds": [r.seconds for r in runs if (r.task, r.arm) == (task, arm)],
        }
    base = found.get(recipe.baseline)
    for arm in found.values():
        arm["times_fewer"] = None if base is None else _ratio(base["median"], arm["median"])
    return found


def _shared_budget(runs: Sequence[FinishedRun], task: str) -> int:
    """Interactions that every finished run of a task made."""
    return min((r.curve[-1].interactions for r in runs if r.task == task), default=0)


def _mean_score(curve: Sequence[tuple[int, float]], goal: Task, budget: int) -> float:
    """Height of the area under a curve up to `budget` interactions."""
    points = [(step, score(goal, value)) for step, value in curve if step <= budget]
    area = sum((one + two) / 2 * (after - before) for (before, one), (after, two) in pairwise(points))
    return area / (points[-1][0] - points[0][0]) if len(points) > 1 else points[0][1]


def _measured(run: FinishedRun, task: Task) -> list[tuple[int, float]]:
    """(interactions, what the task is measured by) of each evaluation."""
    if task.measure == "return":
        return [(point.interactions, point.return_) for point in run.curve]
    if any(point.success is None for point in run.curve):
        raise DataError(f"{run.task} tells no success, but its recipe measures by it. Use measure: return.")
    return [(point.interactions, float(point.success or 0.0)) for point in run.curve]


def _reached(curve: Sequence[tuple[int, float]], scores: Sequence[float], threshold: float) -> Reached:
    steps = [step for step, _ in curve]
    found = interactions_to(steps, scores, threshold)
    return Reached(steps[-1], censored=True) if found is None else Reached(found, censored=False)


def _median(reached: Sequence[Reached]) -> dict[str, Any]:
    """Median interactions; a lower bound where it rests on a run that never got there."""
    ordered = sorted(reached, key=lambda r: (r.censored, r.interactions))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return Reached((low.interactions + high.interactions) // 2, censored=high.censored)._asdict()


def _ratio(base: Mapping[str, Any], arm: Mapping[str, Any]) -> str:
    if arm["censored"]:
        return "not reached"
    sign = "> " if base["censored"] else ""
    return f"{sign}{base['interactions'] / max(arm['interactions'], 1):.1f}" if arm["interactions"] else "at once"


def _overall(recipe: SmallDataRecipe, runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """IQM over tasks and seeds of the score averaged over the run; arms that lack a task are left out."""
    found: dict[str, Any] = {}
    shared = {task: _shared_budget(runs, task) for task in recipe.tasks}
    for arm in recipe.arms:
        by_task = [
            np.asarray(
                [_mean_score(_measured(r, goal), goal, shared[task]) for r in runs if (r.task, r.arm) == (task, arm)]
            )
            for task, goal in recipe.tasks.items()
        ]
        if all(len(scores) for scores in by_task):
            found[arm] = iqm_interval(by_task)._asdict()
    return found


def _markdown(recipe: SmallDataRecipe, result: dict[str, Any]) -> str:
    lines = [f"# {recipe.name}\n"]
    if result["finished_runs"] < result["planned_runs"]:
        lines.append(f"**Partial: {result['finished_runs']} of {result['planned_runs']} runs are finished.**\n")
    lines += [
        f"{recipe.about}\n",
        f"Interactions count every control step, warm-up included. Reached: the first of {IN_A_ROW} "
        "evaluations in a row at or above the threshold; `>` marks runs that never were, at their budget. Scores are "
        "interquartile means with 95 % bootstrap intervals over seeds; the mean score is the area under a run's curve, "
        "up to the interactions that all runs of the task made. Returns stand beside them because reference returns "
        "were taken on older environments.\n",
    ]
    for task, arms in result["tasks"].items():
        goal = recipe.tasks[task]
        lines += [
            f"## {task}: score {goal.threshold:g}\n",
            "| arm | seeds | interactions by seed | median | times fewer | first score | final "
            f"| {goal.measure} | mean score |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, arm in arms.items():
            each = ", ".join(f"{'> ' * c}{i:,}" for i, c in zip(arm["interactions"], arm["censored"], strict=True))
            median = f"{'> ' * arm['median']['censored']}{arm['median']['interactions']:,}"
            figures = [_with_interval(arm[key], arm["seeds"]) for key in ("first_score", "final_score")]
            cells = [name, arm["seeds"], each, median, arm["times_fewer"] or "-", *figures]
            cells += [f"{arm['final']:.4g}", _with_interval(arm["mean_score"], arm["seeds"])]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    if result["all"]:
        lines += ["## All tasks\n", "| arm | mean score |", "|---|---|"]
        lines += [
            f"| {name} | {_with_interval(figure, sum(t[name]['seeds'] for t in result['tasks'].values()))} |"
            for name, figure in result["all"].items()
        ]
    lines += ["\n![curves](curves.png)\n", f"Machine: {result['machine']}"]
    return "\n".join(lines) + "\n"


def _with_interval(raw: Mapping[str, float], values: int) -> str:
    """One value has no interval."""
    figure = Interval(**raw)
    return f"{figure.value:.1f}" if values == 1 else f"{figure.value:.1f} [{figure.low:.1f}, {figure.high:.1f}]"


def _plot(target: Path, recipe: SmallDataRecipe, runs: Sequence[FinishedRun]) -> None:
    tasks = _begun(recipe, runs)
    figure, axes = plt.subplots(1, len(tasks), figsize=(5.2 * len(tasks), 4.0), squeeze=False)
    for axis, (task, goal) in zip(axes.flat, tasks.items(), strict=True):
        budgets: list[int] = []
        for number, arm in enumerate(recipe.arms):  # an arm looks the same in every panel
            curves = [_measured(r, goal) for r in runs if (r.task, r.arm) == (task, arm)]
            if not curves:
                continue
            look = arm_look(number)
            budgets.append(curves[0][-1][0])
            length = min(map(len, curves))
            steps = [s for s, _ in curves[0][:length]]
            points = [iqm_interval([np.asarray([score(goal, c[i][1]) for c in curves])]) for i in range(length)]
            axis.plot(steps, [p.value for p in points], label=f"{arm} ({len(curves)})", linewidth=1.2, **look)
            low, high = [p.low for p in points], [p.high for p in points]
            axis.fill_between(steps, low, high, alpha=0.15, linewidth=0, color=look["color"])
        axis.axhline(goal.threshold, linestyle=":", color="grey")
        if budgets and max(budgets) > 3 * min(budgets):  # a baseline that was given more time
            axis.set_xscale("symlog", linthresh=min(budgets))
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("interactions", fontsize=8)
        axis.set_ylabel("score", fontsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)  # below: arms are many
    figure.tight_layout()
    figure.savefig(target, dpi=110, bbox_inches="tight")
    plt.close(figure)
