"""What `robot-rl bench small-data` leaves beside its runs: summary, report and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from robot_rl.bench.learning.aggregate import Interval, iqm_interval
from robot_rl.bench.learning.online_report import IN_A_ROW, arm_look
from robot_rl.bench.learning.runs import FinishedRun
from robot_rl.bench.learning.small_data_figures import compared, measured, overall, score, task_summary
from robot_rl.bench.learning.small_data_recipe import SmallDataRecipe, Task
from robot_rl.bench.machine import machine
from robot_rl.config import to_mapping


def write_results(out: Path, recipe: SmallDataRecipe, runs: Sequence[FinishedRun], planned: int) -> dict[str, Any]:
    """Write OUT/results.json, report.md and curves.png.

    Args:
        out: Folder of the bench.
        recipe: What was asked for.
        runs: Finished runs.
        planned: Number of runs that the recipe asks for.
    """
    tasks = {task: task_summary(recipe, task, runs) for task in _begun(recipe, runs)}
    result: dict[str, Any] = {
        "recipe": to_mapping(recipe),
        "machine": machine(),
        "finished_runs": len(runs),
        "planned_runs": planned,
        "tasks": tasks,
        "all": overall(recipe, tasks),
        "compared": compared(recipe, tasks),
    }
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    _plot(out / "curves.png", recipe, runs)
    (out / "report.md").write_text(_markdown(recipe, result))
    return result


def _begun(recipe: SmallDataRecipe, runs: Sequence[FinishedRun]) -> dict[str, Task]:
    """The tasks of which a run is finished."""
    return {task: goal for task, goal in recipe.tasks.items() if any(run.task == task for run in runs)}


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
    lines += _compared_lines(result["compared"])
    lines += ["\n![curves](curves.png)\n", f"Machine: {result['machine']}"]
    return "\n".join(lines) + "\n"


def _compared_lines(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the arms that are held against each other; none without any."""
    if not pairs:
        return []
    lines = [
        "\n## Arms held against each other\n",
        "Times fewer: the other's median interactions by the arm's. More: the arm's mean score minus the other's. "
        "Ahead: the probability that a run of the arm has a larger mean score than one of the other, ties by half.\n",
        "| task | arm | against | seeds | times fewer | more | ahead |",
        "|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        more = [f"{x:+.1f}" for x in pair["difference"].values()]
        ahead = [f"{x:.0%}" for x in pair["ahead"].values()]
        told = [more[0], "-"] if min(pair["seeds"]) == 1 else [f"{x} [{low}, {high}]" for x, low, high in (more, ahead)]
        seeds = " / ".join(map(str, pair["seeds"]))
        cells = [pair["task"], pair["arm"], pair["against"], seeds, pair["times_fewer"] or "-", *told]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


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
            curves = [measured(r, goal) for r in runs if (r.task, r.arm) == (task, arm)]
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
            axis.set_xlim(left=0)
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("interactions", fontsize=8)
        axis.set_ylabel("score", fontsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)  # below: arms are many
    figure.tight_layout()
    figure.savefig(target, dpi=110, bbox_inches="tight")
    plt.close(figure)
