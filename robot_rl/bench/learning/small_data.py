"""`robot-rl bench small-data RECIPE`: how few interactions pretraining on small data leaves to be made.

Every (task, arm, seed) is world model, `pretrain` and `finetune` as a user types them, in processes of
their own with one torch thread. Each part goes on where it was when the bench is started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from robot_rl.bench.jobs import run_jobs
from robot_rl.bench.learning.cells import Cell, Choice, Plan, data_digest, finish, settle, working
from robot_rl.bench.learning.small_data_recipe import SmallDataRecipe
from robot_rl.bench.learning.small_data_report import write_results
from robot_rl.config import from_mapping, load_yaml, parse
from robot_rl.console import make_console, print_json
from robot_rl.data.dataset import load_dataset

DESCRIPTION = """Run every arm of a recipe with every seed on every task: train world models, pretrain, fine-tune, and
write OUT/runs.parquet (a row an evaluation), OUT/results.json, OUT/report.md and OUT/curves.png. Interrupted, it
goes on with what is missing; with `--known FILE` also on another machine, from any runs.parquet. `--only.seeds 0 1`
runs a part, `--report-only` tabulates what is there."""


@dataclass(frozen=True, kw_only=True)
class SmallDataConfig:
    """Benchmark of pretraining on small data."""

    recipe: tyro.conf.Positional[Path]  # YAML recipe, such as benchmarks/recipes/small_data.yaml
    data: Path  # folder that the recipe's datasets lie in
    out: Path  # folder for runs and results
    jobs: int = 2  # processes at a time, one torch thread each
    only: Choice = field(default_factory=Choice)  # what to run now, where several machines share a bench
    known: tuple[Path, ...] = ()  # runs.parquet of other machines or earlier: same options and logs are not run again
    report_only: bool = False  # tabulate what is there instead of running what is missing
    json: bool = False  # the results as one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, run what is missing, tabulate."""
    config = parse(SmallDataConfig, argv, prog="robot-rl bench small-data", description=DESCRIPTION)
    recipe = from_mapping(SmallDataRecipe, load_yaml(config.recipe), str(config.recipe))
    cells = [_Cell(t, a, s, config, recipe) for s in recipe.seeds for t in recipe.tasks for a in recipe.arms]
    done = settle(
        cells,
        partial(_run_all, config),
        choice=config.only,
        known=config.known,
        out=config.out,
        report_only=config.report_only,
    )
    result = write_results(config.out, recipe, done, len(cells))
    if config.json:
        print_json(result)
    else:
        make_console().print((config.out / "report.md").read_text(), markup=False)
    return 0


@dataclass(frozen=True)
class _Cell(Cell):
    config: SmallDataConfig
    recipe: SmallDataRecipe

    @property
    def folder(self) -> Path:
        return self.config.out / self.task / self.arm.replace(" ", "_").replace("/", "_") / f"seed{self.seed}"

    @property
    def data(self) -> Path:
        return self.config.data / self.recipe.tasks[self.task].data

    @property
    def plan(self) -> Plan:
        arm = self.recipe.arms[self.arm]
        return {
            "data": data_digest(self.data),
            "seed": self.seed,
            "model": self.recipe.models.get(arm.model),
            "online_model": arm.online_model,
            "logged": arm.logged,
            "pretrain": None if arm.pretrain is None else {**self.recipe.pretrain, **arm.pretrain},
            "finetune": {**self.recipe.finetune, **arm.finetune, "env": load_dataset(self.data).spec.env_id},
        }

    @property
    def model_folder(self) -> Path:
        return self.config.out / self.task / "models" / self.recipe.arms[self.arm].model / f"seed{self.seed}"

    def train_model(self) -> None:
        """Train the world model that this arm shares with others, unless it is there already."""
        settings: dict[str, Any] = {**self.recipe.models[self.recipe.arms[self.arm].model], "seed": self.seed}
        run = self.model_folder / "run"
        with working(self.model_folder, {"data": data_digest(self.data), "model": settings}) as commands:
            if not (run / "report.json").is_file():
                commands.train(["world-model", settings["kind"]], run, settings | {"data": str(self.data)})

    def run(self) -> None:
        arm = self.recipe.arms[self.arm]
        model: dict[str, Any] = {"world_model": str(self.model_folder / "run")} if arm.model else {}
        finetune: dict[str, Any] = {**self.plan["finetune"], "seed": self.seed, "in_turns": True}
        out = self.folder / "finetune"
        with working(self.folder, self.plan) as commands:
            if arm.pretrain is not None:
                start = self.folder / "pretrain"
                pretrain: dict[str, Any] = {**self.plan["pretrain"], **model, "seed": self.seed, "data": str(self.data)}
                commands.train(["pretrain", pretrain["algorithm"]], start, pretrain)
                finetune["start"] = str(start)
            if arm.logged:
                finetune["data"] = str(self.data)
            if arm.online_model:
                finetune |= model
            commands.train(["finetune", finetune["algorithm"]], out, finetune)
        finish(self, out)


def _run_all(config: SmallDataConfig, missing: Sequence[_Cell]) -> None:
    """World models first, because arms share them; then the arms, all tasks and arms of a seed at a time."""
    models = {cell.model_folder: cell for cell in missing if cell.recipe.arms[cell.arm].model}
    lessons = {f"{c.task}, {c.recipe.arms[c.arm].model}, seed {c.seed}": c.train_model for c in models.values()}
    run_jobs("world models", lessons, at_once=config.jobs, quiet=config.json)
    arms = {f"{c.task}, {c.arm}, seed {c.seed}": c.run for c in missing}
    run_jobs("arms", arms, at_once=config.jobs, quiet=config.json)
