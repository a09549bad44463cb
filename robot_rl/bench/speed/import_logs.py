"""`robot-rl bench import LOG ...`: how fast logs are read and stored, and how much memory it takes."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.config import parse
from robot_rl.console import make_console

DESCRIPTION = """Read each log in a process of its own, as `data import` does: open it (with all checks), read all
episodes, write the dataset. Prints transitions per second of each part and the peak memory of the process."""


@dataclass(frozen=True, kw_only=True)
class ImportBenchConfig:
    """Benchmark of importing."""

    logs: tyro.conf.Positional[tuple[Path, ...]]  # log files and dataset folders
    out: Path | None = None  # JSON file to write
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure each log, print."""
    config = parse(ImportBenchConfig, argv, prog="robot-rl bench import", description=DESCRIPTION)
    rows = [measure(log) for log in config.logs]
    result: dict[str, Any] = {"machine": machine(), "results": rows}
    return deliver(result, lambda: _print(rows), as_json=config.json, out=config.out)


def measure(log: Path) -> dict[str, Any]:
    """Figures of one log, taken in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (log,))


def _measure(log: Path) -> dict[str, Any]:
    from robot_rl.data.dataset import write_dataset  # noqa: PLC0415 - their memory belongs to the base
    from robot_rl.data.formats.log import ReadOptions  # noqa: PLC0415
    from robot_rl.data.formats.registry import open_log  # noqa: PLC0415

    base = _peak_mb()
    start, busy = time.perf_counter(), time.process_time()
    opened = open_log(log, "auto", ReadOptions(env="none"))
    opened_s = time.perf_counter() - start
    episodes = list(opened.episodes)
    read_s, read_cpu = time.perf_counter() - start, time.process_time() - busy
    steps = sum(len(e) for e in episodes)
    numbers = sum(e.observations.nbytes + e.actions.nbytes + e.rewards.nbytes for e in episodes)
    peak = _peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), time.process_time()
        write_dataset(Path(folder) / "dataset", opened.spec, episodes, origin=log.name)
        write_s, write_cpu = time.perf_counter() - start, time.process_time() - busy
    return {
        "log": log.name,
        "format": opened.format,
        "log_mb": round(_size(log) / 2**20, 1),
        "episodes": len(episodes),
        "transitions": steps,
        "open_s": opened_s,
        "read_s": read_s,
        "read_cpu_s": read_cpu,
        "write_s": write_s,
        "write_cpu_s": write_cpu,
        "read_per_s": steps / read_s,
        "read_per_cpu_s": steps / read_cpu,
        "write_per_cpu_s": steps / write_cpu,
        "numbers_mb": round(numbers / 2**20, 1),
        "base_mb": base,
        "peak_reading_mb": peak,
    }


def _peak_mb() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _size(log: Path) -> int:
    return log.stat().st_size if log.is_file() else sum(f.stat().st_size for f in log.glob("**/*") if f.is_file())


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(title="importing, transitions per second", title_justify="left")
    for column in ("log", "format", "transitions", "read", "read, cpu", "write, cpu", "peak MB", "of it base"):
        table.add_column(column, justify="left" if column in ("log", "format") else "right")
    for row in rows:
        rates = (f"{row[k]:,.0f}" for k in ("read_per_s", "read_per_cpu_s", "write_per_cpu_s"))
        table.add_row(
            row["log"],
            row["format"],
            f"{row['transitions']:,}",
            *rates,
            f"{row['peak_reading_mb']:.0f}",
            f"{row['base_mb']:.0f}",
        )
    make_console().print(table)
