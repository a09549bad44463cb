"""What the commands share at the terminal: progress bars, tables, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

PIPED = 200  # columns of a table that goes to a file or another program


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Where a command talks: on a terminal as wide as that; elsewhere each sentence stays one line.

    Off a terminal, a fixed width would break paths and messages where no one reads columns, and logs
    could not be searched for them. `COLUMNS` in the environment still sets the width.

    Args:
        stderr: Talk on standard error, so that standard output holds the answer alone.
        quiet: Say nothing.
    """
    console = _Console(stderr=stderr, quiet=quiet, highlight=False)
    if not (sys.stderr if stderr else sys.stdout).isatty() and "COLUMNS" not in os.environ:
        console.width, console.soft_wrap = PIPED, True
    return console


class _Console(Console):
    """Leaves it to `robot_rl.cli` what to do when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled; rich would exit with status 1, which is ours for faults."""
        raise  # noqa: PLE0704 - the one that is being handled


class _Rate(ProgressColumn):
    """Steps per second of a bar."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="dim")


def progress_bar(*, hidden: bool = False) -> Progress:
    """Bars on standard error with count, rate, time left and a free note `{task.fields[note]}`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=make_console(stderr=True),
        disable=hidden,
    )


def key_value_table(title: str, rows: Mapping[str, str]) -> Table:
    """A two-column table."""
    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def after_data(data: Path) -> str:
    """What a user does next with a new dataset folder."""
    return f"Next: robot-rl data doctor {data}   then   robot-rl pretrain bc --data {data} --out RUN"


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output, for other programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
