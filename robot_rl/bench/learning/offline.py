"""`robot-rl bench offline RECIPE`: learners x seeds on one dataset, through the same commands a user types.

Each (arm, seed) is a `pretrain` and an `evaluate` in processes of their own with one torch thread; its
result is kept as a file, so an interrupted bench goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.table import Table

from robot_rl.bench.jobs import robot_rl, run_jobs
from robot_rl.bench.learning.cells import data_digest, keep, require_as_planned, seconds_of, working
from robot_rl.bench.machine import machine
from robot_rl.config import from_mapping, load_yaml, parse, to_mapping
from robot_rl.console import make_console, print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.errors import ConfigError
from robot_rl.evaluate import bootstrap_interval, wilson_interval

DESCRIPTION = """Train every arm of a recipe with every seed on one dataset, evaluate each over the recipe's
episodes, and write OUT/results.json and OUT/results.md. Interrupted, it goes on with what is missing."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a bench file holds."""

    name: str  # of the bench
    episodes: int  # per seed, after training
    seeds: tuple[int, ...]  # of weights, batches and evaluation
    arms: dict[str, dict[str, Any]]  # name -> keys of `pretrain`: algorithm, steps, agent, ...
    baseline: str  # the arm that others are compared with
    common: dict[str, Any] = field(default_factory=dict[str, Any])  # keys of `pretrain` for every arm
    about: str = ""  # what was decided before, on which seeds


@dataclass(frozen=True, kw_only=True)
class OfflineBenchConfig:
    """Benchmark of offline learning."""

    recipe: tyro.conf.Positional[Path]  # YAML recipe, such as benchmarks/recipes/adroit_pen.yaml
    data: Path  # dataset folder
    out: Path  # folder for runs and results
    jobs: int = 2  # processes at a time, one torch thread each
    json: bool = False  # the results as one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, train, evaluate, tabulate."""
    config = parse(OfflineBenchConfig, argv, prog="robot-rl bench offline", description=DESCRIPTION)
    recipe = from_mapping(Recipe, load_yaml(config.recipe), str(config.recipe))
    if recipe.baseline not in recipe.arms:
        raise ConfigError(f"{config.recipe}: baseline '{recipe.baseline}' is not one of {list(recipe.arms)}.")
    dataset = load_dataset(config.data)
    jobs = [(arm, seed) for seed in recipe.seeds for arm in recipe.arms]
    for arm, seed in jobs:  # refused now rather than when its turn comes
        require_as_planned(_folder(config, arm, seed), _plan(config, recipe, arm, seed))
    run_jobs(
        recipe.name,
        {f"{arm} seed {seed}": partial(_one, config, recipe, arm, seed) for arm, seed in jobs},
        at_once=config.jobs,
        quiet=config.json,
    )
    result = _collect(config, recipe, dataset.origin)
    (config.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (config.out / "results.md").write_text(_markdown(recipe, result))
    if config.json:
        print_json(result)
    else:
        _print(recipe, result)
    return 0


def _folder(config: OfflineBenchConfig, arm: str, seed: int) -> Path:
    return config.out / arm / f"seed{seed}"


def _plan(config: OfflineBenchConfig, recipe: Recipe, arm: str, seed: int) -> dict[str, Any]:
    settings: dict[str, Any] = {**recipe.common, **recipe.arms[arm], "seed": seed}
    return {"data": data_digest(config.data), "pretrain": settings, "episodes": recipe.episodes}


def _one(config: OfflineBenchConfig, recipe: Recipe, arm: str, seed: int) -> None:
    """Train and evaluate one (arm, seed), unless its result is there already."""
    folder, plan = _folder(config, arm, seed), _plan(config, recipe, arm, seed)
    settings = plan["pretrain"]
    target, run = folder / "evaluation.json", folder / "run"
    with working(folder, plan) as commands:
        if target.is_file():
            return
        commands.train(["pretrain", settings["algorithm"]], run, settings | {"data": str(config.data)})
    words: list[str] = ["evaluate", str(run), "--episodes", str(recipe.episodes), "--json"]
    words += ["--seed", str(1_000_000 + 10_000 * seed)]
    for key in ("env", "episode_steps"):
        if key in settings:
            words += [f"--{key.replace('_', '-')}", str(settings[key])]
    found = json.loads(robot_rl(words))
    keep(target, {**found, "train_seconds": seconds_of(folder)})


def _collect(config: OfflineBenchConfig, recipe: Recipe, origin: str) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for arm in recipe.arms:
        found = [json.loads((_folder(config, arm, seed) / "evaluation.json").read_text()) for seed in recipe.seeds]
        arms[arm] = _summary(found)
    base = arms[recipe.baseline]
    for arm in arms.values():
        arm["success_minus_baseline"] = _difference(arm["success_by_seed"], base["success_by_seed"])
    return {"recipe": to_mapping(recipe), "data": origin, "machine": machine(), "arms": arms}


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    returns = np.asarray([f["return"]["mean"] for f in found])
    rates = [f["success"]["rate"] for f in found]
    summary: dict[str, Any] = {
        "return_by_seed": returns.tolist(),
        "return": float(returns.mean()),
        "return_interval_95": bootstrap_interval(returns),
        "train_seconds": [round(f["train_seconds"], 1) for f in found],
        "success_by_seed": rates,
    }
    if all(r is not None for r in rates):
        hits = sum(sum(f["successes"]) for f in found)
        total = sum(len(f["successes"]) for f in found)
        summary |= {
            "success": float(np.mean(rates)),
            "success_interval_95_seeds": bootstrap_interval(np.asarray(rates)),
            "success_interval_95_episodes": wilson_interval(hits, total),
        }
    return summary


def _difference(rates: list[float | None], base: list[float | None]) -> dict[str, Any] | None:
    """Paired difference of success over seeds (each seed sees the same episodes in every arm)."""
    if any(r is None for r in (*rates, *base)):
        return None
    gap = np.asarray(rates, float) - np.asarray(base, float)
    return {"mean": float(gap.mean()), "interval_95": bootstrap_interval(gap)}


def _rows(result: dict[str, Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, arm in result["arms"].items():
        success = gap = "unknown"
        if "success" in arm:
            low, high = arm["success_interval_95_seeds"]
            success = f"{arm['success']:.1%} [{low:.1%}, {high:.1%}]"
            low, high = arm["success_minus_baseline"]["interval_95"]
            gap = f"{arm['success_minus_baseline']['mean']:+.1%} [{low:+.1%}, {high:+.1%}]"
        low, high = arm["return_interval_95"]
        seconds = float(np.mean(arm["train_seconds"]))
        rows.append([name, success, gap, f"{arm['return']:.1f} [{low:.1f}, {high:.1f}]", f"{seconds:.0f}"])
    return rows


COLUMNS = ("arm", "success", "minus baseline, paired", "return", "training, s")


def _markdown(recipe: Recipe, result: dict[str, Any]) -> str:
    lines = [f"# {recipe.name}", "", recipe.about, ""]
    lines += [
        f"{len(recipe.seeds)} seeds x {recipe.episodes} episodes; intervals are 95 % bootstraps over seeds. "
        f"Data: {Path(result['data']).name}. Machine: {result['machine']}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(result)]
    return "\n".join(lines) + "\n"


def _print(recipe: Recipe, result: dict[str, Any]) -> None:
    table = Table(*COLUMNS, title=recipe.name, title_justify="left")
    for row in _rows(result):
        table.add_row(*row)
    make_console().print(table)
