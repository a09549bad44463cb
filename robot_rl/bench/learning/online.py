"""`robot-rl bench online RECIPE`: fine-tuning, arms x seeds, through the same commands a user types.

Each (arm, seed) is a `pretrain` (where the arm has one) and a `finetune --in-turns` in processes of their
own with one torch thread. Teachers of other tasks are trained first, once each. What is done stays, an
interrupted fine-tuning resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from robot_rl.algorithms.student import EARNED
from robot_rl.bench.jobs import run_jobs
from robot_rl.bench.learning.cells import Cell, Choice, Plan, data_digest, finish, settle, working
from robot_rl.bench.learning.online_recipe import OnlineRecipe
from robot_rl.bench.learning.online_report import table, write_results
from robot_rl.config import from_mapping, load_yaml, parse
from robot_rl.console import make_console, print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.errors import ConfigError
from robot_rl.run import read_metrics
from robot_rl.transfer.plots import WEIGHT

DESCRIPTION = """Fine-tune every arm of a recipe with every seed, each from its own pretraining, and write
OUT/runs.parquet (a row an evaluation), OUT/results.json, OUT/results.md and OUT/results.png: success (the return, where
the recipe says so) over interactions, its mean over all evaluations, the deepest fall below the starting point, and the
interactions to each threshold (the first of three evaluations in a row at or above it; censored where there is none).
Interrupted, it goes on with what is missing; with `--known FILE` also on another machine, from any runs.parquet.
`--only.seeds 0 1` runs a part, `--report-only` tabulates what is there."""


@dataclass(frozen=True, kw_only=True)
class OnlineBenchConfig:
    """Benchmark of online fine-tuning."""

    recipe: tyro.conf.Positional[Path]  # YAML recipe, such as benchmarks/recipes/adroit_pen_online.yaml
    out: Path  # folder for runs and results
    data: Path | None = None  # dataset folder, if anything learns from logs; with teachers the one of their sources
    env: str = ""  # Gymnasium id of the target in place of the recipe's
    jobs: int = 2  # processes at a time, one torch thread each
    only: Choice = field(default_factory=Choice)  # what to run now, where several machines share a bench
    known: tuple[Path, ...] = ()  # runs.parquet of other machines or earlier: same options and logs are not run again
    report_only: bool = False  # tabulate what is there instead of running what is missing
    json: bool = False  # the results as one JSON object on standard output

    def logs_from_which(self, purpose: str) -> Path:
        """The logs, for a `purpose` such as "its teachers learn".

        Raises:
            ConfigError: If none are given.
        """
        if self.data is None:
            raise ConfigError(f"--data is missing: {self.recipe} needs logs, from which {purpose}.")
        return self.data


def main(argv: Sequence[str]) -> int:
    """Parse, run, tabulate."""
    config = parse(OnlineBenchConfig, argv, prog="robot-rl bench online", description=DESCRIPTION)
    recipe = from_mapping(OnlineRecipe, load_yaml(config.recipe), str(config.recipe))
    if config.env:
        recipe = replace(recipe, finetune=recipe.finetune | {"env": config.env})
    origin = _origin(config, recipe)
    task = str(recipe.finetune.get("env", ""))
    cells = [_Cell(task, arm, seed, config, recipe) for arm, seed in recipe.runs]
    done = settle(
        cells,
        partial(_run_all, config, recipe),
        choice=config.only,
        known=config.known,
        out=config.out,
        report_only=config.report_only,
    )
    result = write_results(config.out, recipe, done, Path(origin).name)
    if config.json:
        print_json(result)
    else:
        make_console().print(table(recipe, result["arms"]))
    return 0


def _origin(config: OnlineBenchConfig, recipe: OnlineRecipe) -> str:
    """What the logs are called."""
    if recipe.teachers:
        return "sources"
    return "no logs" if config.data is None else load_dataset(config.data).origin


@dataclass(frozen=True)
class _Teacher:
    """A world model of other tasks that arms of every seed share."""

    config: OnlineBenchConfig
    recipe: OnlineRecipe
    name: str

    @property
    def folder(self) -> Path:
        return self.config.out / "teachers" / self.name

    @property
    def sources(self) -> list[Path]:
        """Folders in --data; {target} is the task of the arms' environment, "push" for metaworld/push-v3."""
        target = str(self.recipe.finetune.get("env", "")).rpartition("/")[2].rpartition("-v")[0]
        names: list[str] = self.recipe.teachers[self.name]["sources"]
        logs = self.config.logs_from_which("its teachers learn")
        return [logs / source.format(target=target) for source in names]

    @property
    def plan(self) -> Plan:
        settings = {k: v for k, v in self.recipe.teachers[self.name].items() if k != "sources"}
        return {"settings": settings, "sources": [data_digest(source) for source in self.sources]}

    def teach(self) -> None:
        """Train it and merge its sources where an arm wants them, unless that is done already."""
        with working(self.folder, self.plan) as commands:
            sources = list(map(str, self.sources))
            if not (self.folder / "done").is_file():
                commands.train(
                    ["pretrain", "teacher"], self.folder / "run", self.recipe.teachers[self.name] | {"sources": sources}
                )
                (self.folder / "done").touch()
            wanted = any(parts.get("data") == self.name for parts in self.recipe.arms.values())
            if wanted and not (self.folder / "data").exists():
                commands.run(["data", "merge", *sources, "--out", str(self.folder / "data")])


@dataclass(frozen=True)
class _Cell(Cell):
    config: OnlineBenchConfig
    recipe: OnlineRecipe

    @property
    def folder(self) -> Path:
        return self.config.out / self.arm / f"seed{self.seed}"

    @property
    def parts(self) -> dict[str, Any]:
        return self.recipe.arms[self.arm]

    @property
    def logs(self) -> Path | None:
        """Those that every arm of the recipe sees."""
        if self.recipe.teachers:
            return None
        return (
            self.config.logs_from_which(f"'{self.arm}' is pretrained") if "pretrain" in self.parts else self.config.data
        )

    @property
    def plan(self) -> Plan:
        recipe, parts = self.recipe, self.parts
        teachers = {parts[key] for key in ("teacher", "data") if key in parts}
        return {
            "seed": self.seed,
            "data": None if (logs := self.logs) is None else data_digest(logs),
            "teachers": {name: _Teacher(self.config, recipe, name).plan for name in sorted(teachers)},
            "transfer": parts.get("teacher"),
            "merged": parts.get("data"),
            "pretrain": recipe.pretrain | parts["pretrain"] if "pretrain" in parts else None,
            "finetune": recipe.finetune | parts["finetune"],
        }

    def run(self) -> None:
        common: dict[str, Any] = {"seed": self.seed}
        if self.logs is not None:
            common["data"] = str(self.logs)
        settings: dict[str, Any] = {**self.plan["finetune"], **common, "in_turns": True}
        out = self.folder / "finetune"
        with working(self.folder, self.plan) as commands:
            if "pretrain" in self.parts:
                start = self.folder / "pretrain"
                pretrain: dict[str, Any] = {**self.plan["pretrain"], **common}
                commands.train(["pretrain", pretrain["algorithm"]], start, pretrain)
                settings["start"] = str(start)
            if "data" in self.parts:
                settings["data"] = str(_Teacher(self.config, self.recipe, self.parts["data"]).folder / "data")
            if "teacher" in self.parts:
                settings["transfer"] = str(_Teacher(self.config, self.recipe, self.parts["teacher"]).folder / "run")
            commands.train(["finetune", settings["algorithm"]], out, settings)
        finish(self, out, {"weights": _weights(out), "earned": _earned(out)})


def _run_all(config: OnlineBenchConfig, recipe: OnlineRecipe, missing: Sequence[_Cell]) -> None:
    """Teachers first, because arms share them; then all arms of a seed at a time."""
    wanted = {cell.parts[key] for cell in missing for key in ("teacher", "data") if key in cell.parts}
    lessons = {name: _Teacher(config, recipe, name).teach for name in recipe.teachers if name in wanted}
    run_jobs("teachers", lessons, at_once=config.jobs, quiet=config.json or not lessons)
    jobs = {f"{cell.arm} seed {cell.seed}": cell.run for cell in missing}
    run_jobs(recipe.name, jobs, at_once=config.jobs, quiet=config.json)


def _weights(run: Path) -> dict[str, list[float]]:
    """Weight of each source over the first and the last tenth of a run; empty without any."""
    rows = _told(run, WEIGHT)
    part = max(1, len(rows) // 10)
    return {
        name: [float(np.mean([row[name] for row in piece])) for piece in (rows[:part], rows[-part:])]
        for name in (rows[-1] if rows else ())
    }


def _earned(run: Path) -> dict[str, float]:
    """Mean return of each source on trial; empty where none was tried."""
    rows = _told(run, EARNED)
    return rows[-1] if rows else {}


def _told(run: Path, prefix: str) -> list[dict[str, float]]:
    """What a run's metrics tell under names that begin with `prefix`, without it, by row that tells any."""
    rows = (
        {name.removeprefix(prefix): x for name, x in row.items() if name.startswith(prefix)}
        for row in read_metrics(run)
    )
    return [row for row in rows if row]
