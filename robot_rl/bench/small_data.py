"""`robot-rl bench small-data RECIPE`: how few interactions pretraining on small data leaves to be made.

Every (task, arm, seed) is world model, `pretrain` and `finetune` as a user types them, in processes of
their own with one torch thread. Each part goes on where it was when the bench is started again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
import yaml
from rich.console import Console

from robot_rl.bench.jobs import robot_rl, run_jobs
from robot_rl.bench.small_data_recipe import SmallDataRecipe
from robot_rl.bench.small_data_report import write_results
from robot_rl.config import from_mapping, load_yaml, parse
from robot_rl.console import print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.errors import DataError
from robot_rl.run import read_metrics

DESCRIPTION = """Run every arm of a recipe with every seed on every task: train world models, pretrain, fine-tune, and
write OUT/results.jsonl (a row an evaluation), OUT/results.json, OUT/report.md and OUT/curves.png. Interrupted, it
goes on with what is missing. `--report-only` tabulates what is there."""


@dataclass(frozen=True, kw_only=True)
class SmallDataConfig:
    """Benchmark of pretraining on small data."""

    recipe: tyro.conf.Positional[Path]  # YAML recipe, such as benchmarks/recipes/small_data.yaml
    data: Path  # folder that the recipe's datasets lie in
    out: Path  # folder for runs and results
    jobs: int = 2  # processes at a time, one torch thread each
    report_only: bool = False  # tabulate what is there instead of running what is missing
    json: bool = False  # the results as one JSON object on standard output


@dataclass(frozen=True)
class _Cell:
    """One arm on one task with one seed."""

    task: str
    arm: str
    seed: int

    def folder(self, out: Path) -> Path:
        return out / self.task / self.arm.replace(" ", "_").replace("/", "_") / f"seed{self.seed}"


def main(argv: Sequence[str]) -> int:
    """Parse, run what is missing, tabulate."""
    config = parse(SmallDataConfig, argv, prog="robot-rl bench small-data", description=DESCRIPTION)
    recipe = from_mapping(SmallDataRecipe, load_yaml(config.recipe), str(config.recipe))
    for task in recipe.tasks.values():
        load_dataset(config.data / task.data)
    cells = [_Cell(t, a, s) for s in recipe.seeds for t in recipe.tasks for a in recipe.arms]
    if not config.report_only:
        _run_all(config, recipe, cells)
    done = [json.loads(f.read_text()) for f in (c.folder(config.out) / "result.json" for c in cells) if f.is_file()]
    if not done:
        raise DataError(f"{config.out} holds no finished run of '{recipe.name}'. Leave out --report-only.")
    result = write_results(config.out, recipe, done, len(cells))
    if config.json:
        print_json(result)
    else:
        Console(highlight=False).print((config.out / "report.md").read_text(), markup=False)
    return 0


def _run_all(config: SmallDataConfig, recipe: SmallDataRecipe, cells: list[_Cell]) -> None:
    """World models first, because arms share them; then the arms, all tasks and arms of a seed at a time."""
    wanted = {arm.model for arm in recipe.arms.values() if arm.model}
    models = {
        f"{task}, {model}, seed {seed}": partial(_train_model, config, recipe, task, model, seed)
        for seed in recipe.seeds
        for task in recipe.tasks
        for model in sorted(wanted)
    }
    arms = {f"{c.task}, {c.arm}, seed {c.seed}": partial(_run_cell, config, recipe, c) for c in cells}
    run_jobs("world models", models, at_once=config.jobs, quiet=config.json)
    run_jobs("arms", arms, at_once=config.jobs, quiet=config.json)


def _train_model(config: SmallDataConfig, recipe: SmallDataRecipe, task: str, model: str, seed: int) -> None:
    out = _model_folder(config.out, task, model, seed)
    if (out / "report.json").is_file():
        return
    settings: dict[str, Any] = {
        **recipe.models[model],
        "data": str(config.data / recipe.tasks[task].data),
        "out": str(out),
        "seed": seed,
    }
    _verb("world-model", settings["kind"], settings)


def _run_cell(config: SmallDataConfig, recipe: SmallDataRecipe, cell: _Cell) -> None:
    """Pretrain and fine-tune, unless the result is there already."""
    folder = cell.folder(config.out)
    target = folder / "result.json"
    if target.is_file():
        return
    arm, start = recipe.arms[cell.arm], time.perf_counter()
    data = config.data / recipe.tasks[cell.task].data
    model: dict[str, Any] = {}
    if arm.model:
        model = {"world_model": str(_model_folder(config.out, cell.task, arm.model, cell.seed))}
    finetune: dict[str, Any] = {**recipe.finetune, **arm.finetune, "seed": cell.seed, "out": str(folder / "finetune")}
    finetune |= {"env": load_dataset(data).spec.env_id, "in_turns": True}
    if arm.pretrain is not None:
        pretrain: dict[str, Any] = {**recipe.pretrain, **arm.pretrain, **model, "seed": cell.seed, "data": str(data)}
        finetune["start"] = pretrain["out"] = str(folder / "pretrain")
        _verb("pretrain", pretrain["algorithm"], pretrain)
    if arm.logged:
        finetune["data"] = str(data)
    if arm.online_model:
        finetune |= model
    _verb("finetune", finetune["algorithm"], finetune)
    result = {
        "task": cell.task,
        "arm": cell.arm,
        "seed": cell.seed,
        "seconds": round(time.perf_counter() - start, 1),
        "curve": list(_curve(folder / "finetune")),
    }
    work = target.with_suffix(".tmp")
    work.write_text(json.dumps(result))
    work.rename(target)


def _verb(verb: str, kind: str, settings: dict[str, Any]) -> None:
    """`robot-rl VERB KIND` with `settings`, going on from its last checkpoint if it has one."""
    out = Path(settings["out"])
    resume = (out / "checkpoints" / "last").exists()
    if not resume:
        shutil.rmtree(out, ignore_errors=True)  # cut before its first checkpoint
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**settings, "resume": resume}))
    robot_rl([verb, kind, "--config", str(file)])


def _curve(run: Path) -> Iterator[tuple[int, float]]:
    """(interactions, mean return) of every evaluation."""
    for row in read_metrics(run):
        if "eval/return" in row:
            yield int(row["step"]), row["eval/return"]


def _model_folder(out: Path, task: str, model: str, seed: int) -> Path:
    return out / task / "models" / model / f"seed{seed}"
