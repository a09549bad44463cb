"""The figures of `robot-rl bench small-data`: what each arm reached, and arms held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from robot_rl.bench.learning.aggregate import Floats, difference_interval, improvement_interval, iqm_interval
from robot_rl.bench.learning.online_report import interactions_to
from robot_rl.bench.learning.runs import FinishedRun
from robot_rl.bench.learning.small_data_recipe import SmallDataRecipe, Task
from robot_rl.errors import DataError


class Reached(NamedTuple):
    """When a curve got to its threshold.

    Args:
        interactions: At the first of the evaluations that held; the budget where it was never reached.
        censored: It was never reached.
    """

    interactions: int
    censored: bool


def score(task: Task, return_: float) -> float:
    """0 at the task's `low` return, 100 at its `high`."""
    return 100 * (return_ - task.low) / (task.high - task.low)


def task_summary(recipe: SmallDataRecipe, task: str, runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Of each arm that has a finished run on a task."""
    found: dict[str, Any] = {}
    shared = _shared_budget(runs, task)
    for arm in recipe.arms:
        goal = recipe.tasks[task]
        curves = [measured(r, goal) for r in runs if (r.task, r.arm) == (task, arm)]
        if not curves:
            continue
        scores = [[score(goal, v) for _, v in c] for c in curves]
        reached = [_reached(c, x, goal.threshold) for c, x in zip(curves, scores, strict=True)]
        means = [_mean_score(curve, goal, shared) for curve in curves]
        found[arm] = {
            "seeds": len(curves),
            "interactions": [r.interactions for r in reached],
            "censored": [r.censored for r in reached],
            "median": _median(reached),
            "first_score": iqm_interval([np.asarray([x[0] for x in scores])])._asdict(),
            "final_score": iqm_interval([np.asarray([x[-1] for x in scores])])._asdict(),
            "final": float(np.mean([c[-1][1] for c in curves])),
            "mean_score": iqm_interval([np.asarray(means)])._asdict(),
            "mean_score_by_seed": means,
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


def measured(run: FinishedRun, task: Task) -> list[tuple[int, float]]:
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


def overall(recipe: SmallDataRecipe, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """IQM over tasks and seeds of the score averaged over the run; arms that lack a task are left out; {} of one task.

    Args:
        recipe: What was asked for.
        tasks: A `task_summary` each.
    """
    if len(recipe.tasks) == 1:
        return {}
    return {
        arm: iqm_interval([_mean_scores(tasks[task], arm) for task in recipe.tasks])._asdict()
        for arm in recipe.arms
        if _on_all(recipe, tasks, arm)
    }


def compared(recipe: SmallDataRecipe, tasks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pairs of arms that the recipe names, held against each other on each task and, where both have them, on all.

    Args:
        recipe: What was asked for.
        tasks: A `task_summary` each.
    """
    pairs = [(arm, other) for arm, others in recipe.compare.items() for other in others]
    found = [
        _pair(task, arm, other, [arms]) | {"times_fewer": _ratio(arms[other]["median"], arms[arm]["median"])}
        for task, arms in tasks.items()
        for arm, other in pairs
        if arm in arms and other in arms
    ]
    if len(recipe.tasks) > 1:
        both = [pair for pair in pairs if all(_on_all(recipe, tasks, arm) for arm in pair)]
        found += [_pair("all", *pair, list(tasks.values())) | {"times_fewer": None} for pair in both]
    return found


def _pair(task: str, arm: str, other: str, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the mean scores of two arms differ on the tasks of `tables`."""
    ours, theirs = ([_mean_scores(arms, name) for arms in tables] for name in (arm, other))
    return {
        "task": task,
        "arm": arm,
        "against": other,
        "seeds": [sum(map(len, ours)), sum(map(len, theirs))],
        "difference": difference_interval(ours, theirs)._asdict(),
        "ahead": improvement_interval(ours, theirs)._asdict(),
    }


def _mean_scores(arms: Mapping[str, Any], arm: str) -> Floats:
    return np.asarray(arms[arm]["mean_score_by_seed"])


def _on_all(recipe: SmallDataRecipe, tasks: Mapping[str, Mapping[str, Any]], arm: str) -> bool:
    return all(task in tasks and arm in tasks[task] for task in recipe.tasks)
