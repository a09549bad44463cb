"""The cells of a bench: what each is told, where its runs lie, which of them are still to be run.

A cell's plan is everything that decides it: the options of each of its commands, the seed and the hash of
the logs, but no path. Cells of the same plan are the same, on whichever machine they were run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robot_rl.bench.jobs import robot_rl
from robot_rl.bench.learning.runs import FILE, Evaluation, FinishedRun, load_runs, save_runs
from robot_rl.bench.machine import machine
from robot_rl.config import nearest
from robot_rl.console import make_console
from robot_rl.data.dataset import load_dataset
from robot_rl.data.durable import FolderLock, write_synced
from robot_rl.data.episode import feed
from robot_rl.data.formats.arrow import pyarrow_parquet
from robot_rl.errors import ConfigError, DataError
from robot_rl.run import read_metrics

Plan = Mapping[str, Any]
_PLAN, _RESULT, _SECONDS = "plan.json", "result.json", "seconds.json"


def digest(plan: Plan) -> str:
    """SHA-256 of a plan, equal on every machine."""
    return hashlib.sha256(_canonical(plan).encode()).hexdigest()


@cache
def data_digest(path: Path) -> str:
    """SHA-256 over all episodes of a dataset: observations, actions, rewards and how they end."""
    found = hashlib.sha256()
    for episode in load_dataset(path):
        feed(found.update, episode)
        found.update(f"{len(episode)} {episode.terminated} {episode.truncated} {episode.success}".encode())
    return found.hexdigest()


def require_as_planned(folder: Path, plan: Plan) -> None:
    """Refuse a folder that was begun with another plan.

    Raises:
        DataError: Naming the options that differ, with both values.
    """
    file = folder / _PLAN
    if not file.is_file():
        return
    began, wanted = _flat(json.loads(file.read_text())), _flat(json.loads(_canonical(plan)))
    missing = "(not given)"
    changed = [
        f"{key} was {began.get(key, missing)}, is {wanted.get(key, missing)}"
        for key in sorted(began.keys() | wanted.keys())
        if began.get(key, missing) != wanted.get(key, missing)
    ]
    if changed:
        raise DataError(
            f"{folder} was begun with other options or data: {'; '.join(changed[:6])}. Take another --out, "
            "undo the change, or remove that folder to run it anew."
        )


@dataclass(frozen=True)
class Commands:
    """Commands that write into a folder which a bench has to itself; they keep it if the bench dies before they end.

    Args:
        lock: Of that folder.
    """

    lock: FolderLock

    def run(self, words: Sequence[str]) -> None:
        """`robot-rl WORDS`."""
        robot_rl(words, self.lock)

    def train(self, words: Sequence[str], out: Path, settings: Mapping[str, Any]) -> None:
        """`robot-rl WORDS` with `settings`, from its last checkpoint if OUT has one; they stay in a file beside it."""
        resume = (out / "checkpoints" / "last").exists()
        if not resume:
            shutil.rmtree(out, ignore_errors=True)  # cut before its first checkpoint
        file = out.with_suffix(".yaml")
        file.write_text(yaml.safe_dump({**settings, "out": str(out), "resume": resume}))
        self.run([*words, "--config", str(file)])


@contextmanager
def working(folder: Path, plan: Plan) -> Generator[Commands]:
    """Have a run's folder to oneself, say there what it is told, and count the seconds of this sitting.

    Yields:
        The commands to run there.

    Raises:
        DataError: If it was begun with another plan, or another bench is at work on it.
    """
    lock = FolderLock(folder, "run")
    try:
        require_as_planned(folder, plan)
        keep(folder / _PLAN, plan)
        start = time.perf_counter()
        try:
            yield Commands(lock)
        finally:
            keep(folder / _SECONDS, seconds_of(folder) + time.perf_counter() - start)
    finally:
        lock.release()


def seconds_of(folder: Path) -> float:
    """Of all sittings in `folder` that were brought to an end."""
    file = folder / _SECONDS
    return json.loads(file.read_text()) if file.is_file() else 0.0


def keep(file: Path, value: Any) -> None:
    """Write a value as JSON: whole or not there."""
    write_synced(file, _canonical(value).encode())


def finish(cell: Cell, run: Path, facts: dict[str, Any] | None = None) -> None:
    """Keep what came of a cell.

    Args:
        cell: The one.
        run: Folder of the run whose evaluations are its curve.
        facts: Whatever else the bench reports of it.
    """
    curve = tuple(
        Evaluation(int(row["step"]), row["eval/return"], row.get("eval/success"))
        for row in read_metrics(run)
        if "eval/return" in row
    )
    found = FinishedRun(
        task=cell.task,
        arm=cell.arm,
        seed=cell.seed,
        plan=digest(cell.plan),
        seconds=round(seconds_of(cell.folder), 1),
        curve=curve,
        processor=str(machine()["processor"]),
        facts=facts or {},
    )
    keep(cell.folder / _RESULT, asdict(found))


@dataclass(frozen=True)
class Cell(ABC):
    """One arm on one task with one seed: what a bench runs, once, and tabulates.

    Args:
        task: Its name in the bench.
        arm: Its name in the recipe.
        seed: Of everything.
    """

    task: str
    arm: str
    seed: int

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its runs lie."""

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """Everything that decides it, no path among it."""

    @abstractmethod
    def run(self) -> None:
        """Run what is missing and `finish`."""


C = TypeVar("C", bound=Cell)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which part of a bench is run now, so that machines can share one; whatever is finished is reported."""

    tasks: tuple[str, ...] = ()  # run these tasks alone; default all
    arms: tuple[str, ...] = ()  # run these arms alone; default all
    seeds: tuple[int, ...] = ()  # run these seeds alone; default all

    def of(self, cells: Sequence[C]) -> list[C]:
        """The chosen ones of all `cells`.

        Raises:
            ConfigError: If a name is none of theirs.
        """
        self._require("task", self.tasks, [cell.task for cell in cells])
        self._require("arm", self.arms, [cell.arm for cell in cells])
        self._require("seed", self.seeds, [cell.seed for cell in cells])
        return [
            cell
            for cell in cells
            if cell.task in (self.tasks or (cell.task,))
            and cell.arm in (self.arms or (cell.arm,))
            and cell.seed in (self.seeds or (cell.seed,))
        ]

    @staticmethod
    def _require(what: str, wanted: Sequence[object], there: Sequence[object]) -> None:
        for name in wanted:
            if name not in there:
                known = dict.fromkeys(map(str, there))
                raise ConfigError(f"No {what} of this bench is '{name}'.{nearest(str(name), known)}")


def settle(
    cells: Sequence[C],
    run: Callable[[Sequence[C]], None],
    *,
    choice: Choice,
    known: Sequence[Path],
    out: Path,
    report_only: bool,
) -> list[FinishedRun]:
    """Have the missing cells run, and write OUT/runs.parquet.

    Args:
        cells: All of a bench.
        run: Runs those that it is given.
        choice: Which of them may be run.
        known: Files runs.parquet, of machines that share the bench: cells with a plan of their runs are not
            missing. Where several have one, the first named counts.
        out: Folder of the bench.
        report_only: Take what is there.

    Returns:
        The finished runs of `cells`, in their order.

    Raises:
        DataError: If a cell's folder was begun with another plan, or nothing is finished.
    """
    pyarrow_parquet()  # refused now rather than after days
    chosen = choice.of(cells)
    for cell in cells:
        require_as_planned(cell.folder, cell.plan)
    runs = _known_runs(known, [digest(cell.plan) for cell in cells])
    if not report_only:
        run([cell for cell in chosen if _result(cell, runs) is None])
    done = [result for result in (_result(cell, runs) for cell in cells) if result is not None]
    if not done:
        raise DataError(f"{out} holds no finished run of this recipe. Leave out --report-only.")
    out.mkdir(parents=True, exist_ok=True)
    save_runs(out / FILE, done)
    return done


def _known_runs(files: Sequence[Path], wanted: Sequence[str]) -> dict[str, FinishedRun]:
    """Runs of all `files` by the digests of their plans; how many are `wanted` is told of each."""
    found: dict[str, FinishedRun] = {}
    for file in files:
        runs = load_runs(file)
        fitting = sum(plan in runs for plan in wanted)
        told = (
            f"{file}: {fitting} of its {len(runs)} runs have the options and logs of one of the {len(wanted)} wanted."
        )
        make_console(stderr=True).print(told)
        found = runs | found
    return found


def _result(cell: Cell, known: Mapping[str, FinishedRun]) -> FinishedRun | None:
    """Of this machine or a known one; None where neither has finished the cell."""
    run = _finished(cell.folder) or known.get(digest(cell.plan))
    return None if run is None else replace(run, task=cell.task, arm=cell.arm)


def _finished(folder: Path) -> FinishedRun | None:
    """What `finish` kept in a run's folder; None where it isn't finished."""
    file = folder / _RESULT
    if not file.is_file():
        return None
    raw = json.loads(file.read_text())
    return FinishedRun(**raw | {"curve": tuple(Evaluation(*point) for point in raw["curve"])})


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _flat(plan: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in plan.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            found[f"{prefix}{key}"] = value
    return found
