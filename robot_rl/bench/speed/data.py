"""`robot-rl bench data`: how fast logs and datasets are read, examined and drawn from, and in how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.bench.speed.data_parts import make_large, make_small
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.errors import RobotRLError

DESCRIPTION = """Measure transitions per second and peak memory (resident set) of importing, loading, examining and
sampling, each in a process of its own. The last parts go through a dataset larger than the memory they may use."""


@dataclass(frozen=True, kw_only=True)
class DataBenchConfig:
    """Benchmark of data handling."""

    transitions: int = 500_000  # in the dataset and logs of state data
    large_gb: float = 5.0  # transitions of the large dataset as the replay holds them, GB; 0 leaves it out
    memory_gb: float = 0.25  # of it kept in memory, GB
    folder: Path | None = None  # where to make the data; default a temporary folder
    out: Path | None = None  # write the result to this JSON file
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(DataBenchConfig, argv, prog="robot-rl bench data", description=DESCRIPTION)
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        result = measure(config, Path(folder))
    return deliver(result, lambda: _print(result), as_json=config.json, out=config.out)


def measure(config: DataBenchConfig, folder: Path) -> dict[str, Any]:
    """Every part in turn, each in its own process."""
    rows: dict[str, dict[str, float]] = {}
    made = make_small(folder, config.transitions)
    for part, source in made.items():
        rows[part] = run_part(part, source, config.memory_gb)
    if config.large_gb > 0:
        large = make_large(folder, config.large_gb)
        for part in ("large: load", "large: sample", "large: train"):
            rows[part] = run_part(part, large, config.memory_gb)
    return {
        "machine": machine(),
        "transitions": config.transitions,
        "large_gb": config.large_gb,
        "memory_gb": config.memory_gb,
        "results": rows,
    }


def run_part(part: str, source: Path, memory_gb: float) -> dict[str, float]:
    """One part in a process of its own.

    Raises:
        RobotRLError: If it fails; with its last words.
    """
    words = [sys.executable, "-m", "robot_rl.bench.speed.data_parts", part, str(source), str(memory_gb)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RobotRLError(f"'{part}' failed: {done.stderr.strip().splitlines()[-1:]}. Run `{' '.join(words)}` to see.")
    return json.loads(done.stdout)


def _print(result: dict[str, Any]) -> None:
    table = Table(title="Data", title_justify="left")
    for column in ("part", "transitions/s", "a processor s", "seconds", "peak"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, row in result["results"].items():
        table.add_row(
            name,
            f"{row['transitions_per_s']:,.0f}",
            f"{row['transitions_per_processor_s']:,.0f}",
            f"{row['seconds']:.1f}",
            f"{row['peak_mb']:,.0f} MB",
        )
    out = make_console()
    out.print(table)
    out.print(str(result["machine"]), markup=False)
