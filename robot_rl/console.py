"""What the commands share at the terminal: progress bars, tables, JSON."""

from __future__ import annotations

import json
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
        console=Console(stderr=True),
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
