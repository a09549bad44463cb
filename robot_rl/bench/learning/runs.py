"""Finished runs of a bench and the parquet file that keeps them, a row an evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from robot_rl.data.durable import write_synced
from robot_rl.data.formats.arrow import pyarrow_parquet, read_columns
from robot_rl.errors import DataError

FILE = "runs.parquet"
_COLUMNS = ("task", "arm", "seed", "plan", "seconds", "processor", "facts", "interactions", "return", "success")


class Evaluation(NamedTuple):
    """One point of a learning curve.

    Args:
        interactions: Control steps before it.
        return_: Mean return.
        success: Share of episodes; None where the environment doesn't tell.
    """

    interactions: int
    return_: float
    success: float | None


@dataclass(frozen=True)
class FinishedRun:
    """What came of one arm on one task with one seed.

    Args:
        task: Its name in the bench.
        arm: Its name in the recipe.
        seed: Of everything.
        plan: Digest of its plan.
        seconds: In its processes, over all sittings.
        curve: Evaluations in order.
        processor: Of the machine.
        facts: Whatever else the bench reports of it.
    """

    task: str
    arm: str
    seed: int
    plan: str
    seconds: float
    curve: tuple[Evaluation, ...]
    processor: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


def save_runs(file: Path, runs: Sequence[FinishedRun]) -> None:
    """Write a row an evaluation; `load_runs` gives the same runs back."""
    parquet = pyarrow_parquet()
    import pyarrow as pa  # noqa: PLC0415 - an extra

    rows = [
        (r.task, r.arm, r.seed, r.plan, r.seconds, r.processor, json.dumps(r.facts), *point)
        for r in runs
        for point in r.curve
    ]
    content = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist([dict(zip(_COLUMNS, row, strict=True)) for row in rows]), content)
    write_synced(file, content.getvalue().to_pybytes())


def load_runs(file: Path) -> dict[str, FinishedRun]:
    """Runs of a file that `save_runs` wrote, by the digests of their plans.

    Raises:
        DataError: If it is missing, damaged or something else.
    """
    table = read_columns(file, _COLUMNS)
    lacking = sorted(set(_COLUMNS) - set(table.column_names))
    if lacking:
        raise DataError(f"{file} has no column {', '.join(lacking)}: it is no bench's {FILE}.")
    found: dict[str, FinishedRun] = {}
    for row in table.to_pylist():
        point = Evaluation(row["interactions"], row["return"], row["success"])
        known = found.get(row["plan"])
        curve = (point,) if known is None else (*known.curve, point)
        facts = json.loads(row["facts"])
        found[row["plan"]] = FinishedRun(
            row["task"], row["arm"], row["seed"], row["plan"], row["seconds"], curve, row["processor"], facts
        )
    return found
