"""`robot-rl bench online RECIPE`: fine-tuning, arms x seeds, through the same commands a user types.

Each (arm, seed) is a `pretrain` (where the arm has one) and a `finetune --in-turns` in processes of their
own with one torch thread. Teachers of other tasks are trained first, once each. What is done stays, an
interrupted fine-tuning resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tyro
import yaml
from rich.console import Console
from rich.table import Table

from robot_rl.bench.jobs import robot_rl, run_jobs
from robot_rl.bench.machine import machine
from robot_rl.config import from_mapping, load_yaml, parse, to_mapping
from robot_rl.console import print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.errors import DataError
from robot_rl.evaluate import bootstrap_interval
from robot_rl.run import read_metrics
from robot_rl.transfer.plots import WEIGHT

mpl.use("Agg")
import matplotlib.pyplot as plt

DESCRIPTION = """Fine-tune every arm of a recipe with every seed, each from its own pretraining, and write
OUT/results.json, OUT/results.md and OUT/results.png: success over interactions, the deepest fall below the
starting point, and the interactions to each threshold (the first of three evaluations in a row at or above
it; censored where there is none). Interrupted, it goes on with what is missing. `--report-only` tabulates what
is there."""

IN_A_ROW = 3


@dataclass(frozen=True, kw_only=True)
class OnlineRecipe:
    """What an online bench file holds."""

    name: str  # of the bench
    seeds: tuple[int, ...]  # of weights, batches, exploration and evaluation
    # name -> {pretrain: keys of `pretrain`, finetune: of `finetune`, teacher: a name, data: name of one whose sources}
    arms: dict[str, dict[str, Any]]
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict[str, Any])  # name -> keys of `pretrain teacher`
    pretrain: dict[str, Any] = field(default_factory=dict[str, Any])  # for every arm that pretrains
    finetune: dict[str, Any] = field(default_factory=dict[str, Any])  # for every arm
    thresholds: tuple[float, ...] = (0.8, 0.9)  # of success
    about: str = ""  # what was decided before, on which seeds


@dataclass(frozen=True, kw_only=True)
class OnlineBenchConfig:
    """Benchmark of online fine-tuning."""

    recipe: tyro.conf.Positional[Path]  # YAML recipe, such as benchmarks/recipes/adroit_pen_online.yaml
    data: Path  # dataset folder; for recipes with teachers the folder that holds their sources
    out: Path  # folder for runs and results
    env: str = ""  # Gymnasium id of the target in place of the recipe's
    jobs: int = 2  # processes at a time, one torch thread each
    report_only: bool = False  # tabulate what is there instead of running what is missing
    json: bool = False  # the results as one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, run, tabulate."""
    config = parse(OnlineBenchConfig, argv, prog="robot-rl bench online", description=DESCRIPTION)
    recipe = from_mapping(OnlineRecipe, load_yaml(config.recipe), str(config.recipe))
    if config.env:
        recipe = replace(recipe, finetune=recipe.finetune | {"env": config.env})
    origin = "sources" if recipe.teachers else load_dataset(config.data).origin
    if not config.report_only:
        _run_all(config, recipe)
    done = {arm: [s for s in recipe.seeds if (_folder(config, arm, s) / "done.json").is_file()] for arm in recipe.arms}
    if not any(done.values()):
        raise DataError(f"{config.out} holds no finished run of '{recipe.name}'. Leave out --report-only.")
    arms = {arm: _summary(config, recipe, arm, seeds) for arm, seeds in done.items() if seeds}
    result = {"recipe": to_mapping(recipe), "data": Path(origin).name, "machine": machine(), "arms": arms}
    (config.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (config.out / "results.md").write_text(_markdown(recipe, result))
    _plot(recipe, arms, config.out / "results.png")
    if config.json:
        print_json(result)
    else:
        table = Table(*_columns(recipe), title=recipe.name, title_justify="left")
        for row in _rows(recipe, arms):
            table.add_row(*row)
        Console(highlight=False).print(table)
    return 0


def _run_all(config: OnlineBenchConfig, recipe: OnlineRecipe) -> None:
    """Teachers first, because arms share them; then all arms of a seed at a time."""
    lessons = {name: partial(_teach, config, recipe, name) for name in recipe.teachers}
    run_jobs("teachers", lessons, at_once=config.jobs, quiet=config.json or not lessons)
    jobs = {
        f"{arm} seed {seed}": partial(_one, config, recipe, arm, seed) for seed in recipe.seeds for arm in recipe.arms
    }
    run_jobs(recipe.name, jobs, at_once=config.jobs, quiet=config.json)


def _folder(config: OnlineBenchConfig, arm: str, seed: int) -> Path:
    return config.out / arm / f"seed{seed}"


def _teach(config: OnlineBenchConfig, recipe: OnlineRecipe, name: str) -> None:
    """Train a teacher and merge its sources where an arm wants them, unless that is done already.

    Its `sources` are names of folders in --data; {target} is the task of the arms' environment, "push" for
    metaworld/push-v3.
    """
    settings = recipe.teachers[name]
    target = str(recipe.finetune.get("env", "")).rpartition("/")[2].rpartition("-v")[0]
    folder = _teacher_of(config, name)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [str(config.data / source.format(target=target)) for source in settings["sources"]]
    if not (folder / "done").is_file():
        _run(["pretrain", "teacher"], folder, folder / "run", settings | {"sources": sources})
        (folder / "done").touch()
    if any(parts.get("data") == name for parts in recipe.arms.values()) and not (folder / "data").exists():
        robot_rl(["data", "merge", *sources, "--out", str(folder / "data")])


def _teacher_of(config: OnlineBenchConfig, name: str) -> Path:
    return config.out / "teachers" / name


def _one(config: OnlineBenchConfig, recipe: OnlineRecipe, arm: str, seed: int) -> None:
    """Pretrain and fine-tune one (arm, seed), unless that is done already."""
    folder = _folder(config, arm, seed)
    if (folder / "done.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    parts, start, common = recipe.arms[arm], time.perf_counter(), {"seed": seed}
    if not recipe.teachers:
        common |= {"data": str(config.data)}
    begun = folder / "pretrained"
    if "pretrain" in parts and not (begun / "done").is_file():
        settings = recipe.pretrain | parts["pretrain"] | common
        _run(["pretrain", settings["algorithm"]], folder, begun, settings)
        (begun / "done").touch()
    settings = recipe.finetune | parts["finetune"] | common
    if "pretrain" in parts:
        settings["start"] = str(begun)
    if "data" in parts:
        settings["data"] = str(_teacher_of(config, parts["data"]) / "data")
    if "teacher" in parts:
        settings["transfer"] = str(_teacher_of(config, parts["teacher"]) / "run")
    _run(["finetune", settings["algorithm"]], folder, folder / "run", settings | {"in_turns": True})
    (folder / "done.json").write_text(json.dumps({"seconds": time.perf_counter() - start}))


def _run(words: list[str], folder: Path, out: Path, settings: dict[str, Any]) -> None:
    settings = settings | {"out": str(out), "resume": (out / "checkpoints" / "last").exists()}
    file = folder / f"{words[0]}.yaml"
    file.write_text(yaml.safe_dump(settings))
    robot_rl([*words, "--config", str(file)])


def _summary(config: OnlineBenchConfig, recipe: OnlineRecipe, arm: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Of the arm's finished `seeds`."""
    curves: list[list[float]] = []
    steps: list[int] = []
    for seed in seeds:
        rows = [r for r in read_metrics(_folder(config, arm, seed) / "run") if "eval/success" in r]
        steps = [int(r["step"]) for r in rows]
        curves.append([r["eval/success"] for r in rows])
    table = np.asarray(curves)  # (seeds, evaluations)
    mean = table.mean(0)
    return {
        "seeds": list(seeds),
        "steps": steps,
        "success_by_seed": table.tolist(),
        "success": mean.tolist(),
        "success_interval_95": [bootstrap_interval(column) for column in table.T],
        "start": float(mean[0]),
        "end": float(mean[-1]),
        "best": float(mean.max()),
        "deepest_fall_of_the_mean": float(max(0.0, mean[0] - mean.min())),
        "deepest_fall_by_seed": np.maximum(0.0, table[:, 0] - table.min(1)).tolist(),
        "interactions_to": {
            f"{level:.0%}": [interactions_to(steps, curve, level) for curve in curves] for level in recipe.thresholds
        },
        "weights": _weights(config, arm, seeds),
        "seconds": [json.loads((_folder(config, arm, s) / "done.json").read_text())["seconds"] for s in seeds],
    }


def _weights(config: OnlineBenchConfig, arm: str, seeds: Sequence[int]) -> dict[str, list[float]]:
    """Mean weight of each source over the first and the last tenth of the run, over `seeds`; empty without any."""
    found: dict[str, list[list[float]]] = {}
    for seed in seeds:
        rows = [r for r in read_metrics(_folder(config, arm, seed) / "run") if any(map(_is_weight, r))]
        part = max(1, len(rows) // 10)
        for name in filter(_is_weight, rows[-1] if rows else {}):
            ends = [float(np.mean([row[name] for row in piece])) for piece in (rows[:part], rows[-part:])]
            found.setdefault(name.removeprefix(WEIGHT), []).append(ends)
    return {name: np.mean(ends, axis=0).tolist() for name, ends in found.items()}


def _is_weight(name: str) -> bool:
    return name.startswith(WEIGHT)


def interactions_to(steps: Sequence[int], curve: Sequence[float], level: float) -> int | None:
    """Interactions at the first of three evaluations in a row at or above `level`; None where there is none."""
    above = np.asarray(curve) >= level
    for i in range(len(above) - IN_A_ROW + 1):
        if above[i : i + IN_A_ROW].all():
            return int(steps[i])
    return None


def _columns(recipe: OnlineRecipe) -> list[str]:
    return [
        "arm", "seeds", "start", "end", "best mean", "deepest fall of the mean", "of a seed",
        *(f"interactions to {level:.0%}, by seed" for level in recipe.thresholds), "minutes",
    ]  # fmt: skip


def _rows(recipe: OnlineRecipe, arms: dict[str, Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, arm in arms.items():
        low, high = arm["success_interval_95"][-1]
        reached = [
            ", ".join("never" if n is None else f"{n:,}" for n in arm["interactions_to"][f"{level:.0%}"])
            for level in recipe.thresholds
        ]
        rows.append(
            [
                name,
                ", ".join(map(str, arm["seeds"])),
                f"{arm['start']:.1%}",
                f"{arm['end']:.1%} [{low:.1%}, {high:.1%}]",
                f"{arm['best']:.1%}",
                f"{arm['deepest_fall_of_the_mean']:.1%}",
                f"{max(arm['deepest_fall_by_seed']):.1%}",
                *reached,
                f"{np.mean(arm['seconds']) / 60:.0f}",
            ]
        )
    return rows


def _markdown(recipe: OnlineRecipe, result: dict[str, Any]) -> str:
    columns = _columns(recipe)
    runs = sum(len(arm["seeds"]) for arm in result["arms"].values())
    wanted = len(recipe.arms) * len(recipe.seeds)
    lines = [
        f"# {recipe.name}", "",
        *([f"**Partial: {runs} of {wanted} runs are finished.**", ""] if runs < wanted else []),
        recipe.about, "",
        f"{recipe.finetune.get('eval_episodes', 20)} episodes an evaluation; intervals are 95 % bootstraps over an "
        f"arm's seeds. Data: {result['data']}. Machine: {result['machine']}.",
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
    return "\n".join(lines) + "\n"


def _plot(recipe: OnlineRecipe, arms: dict[str, Any], target: Path) -> None:
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for name, arm in arms.items():
        band = np.asarray(arm["success_interval_95"])
        (drawn,) = axis.plot(arm["steps"], arm["success"], marker=".", label=name)
        axis.fill_between(arm["steps"], band[:, 0], band[:, 1], alpha=0.15, color=drawn.get_color(), linewidth=0)
    axis.set_xlabel("interactions")
    axis.set_ylabel("success")
    axis.set_ylim(0, 1)
    axis.set_title(recipe.name, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)
