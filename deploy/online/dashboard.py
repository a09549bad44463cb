"""A running learner at the terminal: a live table, or a line now and then where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from deploy.online.learner import LearnerView
from robot_rl.console import make_console
from robot_rl.finetune import SHOWN

LINE_EVERY_S = 10.0
BAD = ("malformed", "wrong_version", "unauthenticated", "oversized", "replayed")


class Dashboard:
    """Shows `LearnerView`s as they come.

    Args:
        title: Name of the run.
        steps: Interactions in all.
        quiet: Show nothing.
    """

    def __init__(self, title: str, steps: int, *, quiet: bool = False) -> None:
        self._console = make_console(stderr=True)
        self._quiet, self._title = quiet, title
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=False) if self._console.is_terminal else None
        )
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._task = self._progress.add_task("interactions", total=steps)
        self._said_at = float("-inf")

    def __enter__(self) -> Dashboard:
        if self._live is not None and not self._quiet:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None and not self._quiet:
            self._live.stop()

    def show(self, view: LearnerView) -> None:
        """Draw the newest state."""
        if self._quiet:
            return
        self._progress.update(self._task, completed=view.interactions)
        if self._live is not None:
            self._live.update(Group(Text(self._title, style="bold"), self._progress, _learner(view), _actors(view)))
        elif time.monotonic() - self._said_at > LINE_EVERY_S:
            self._said_at = time.monotonic()
            self._console.print(line(view), markup=False, highlight=False)


def line(view: LearnerView) -> str:
    """The state in one line."""
    facts = [f"{view.interactions:,} interactions", f"{view.updates:,} updates ({view.updates_per_s:.0f}/s)"]
    facts += [f"{name} {view.scalars[name]:.3g}" for name in SHOWN if name in view.scalars]
    alive = sum(actor.alive for actor in view.actors)
    return "  ".join([*facts, f"weights {view.version}", f"{alive} actor{'' if alive == 1 else 's'}", view.doing])


def _learner(view: LearnerView) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    cells = {
        "doing": view.doing,
        "updates": f"{view.updates:,}  ({view.updates_per_s:.0f}/s)",
        "not in training yet": f"{view.waiting:,}",
        "weights": f"version {view.version}",
    }
    cells |= {name: f"{view.scalars[name]:.3g}" for name in SHOWN if name in view.scalars}
    bad = {name: view.counters[name] for name in BAD if view.counters.get(name)}
    if bad:
        cells["messages ignored"] = ", ".join(f"{count:,} {name}" for name, count in bad.items())
    for name, value in cells.items():
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _actors(view: LearnerView) -> Table:
    table = Table(title="actors", title_justify="left")
    for column in ("name", "state", "transitions", "queue", "policy", "policy age, s", "latency, ms"):
        table.add_column(column, justify="left" if column in {"name", "state"} else "right")
    for actor in view.actors:
        state = (
            (f"holds: {actor.hold}" if actor.hold else "acting") if actor.alive else f"silent {actor.silent_s:.0f} s"
        )
        table.add_row(
            Text(actor.name),  # what an actor says of itself is no markup
            Text(state),
            f"{actor.received:,}",
            f"{actor.backlog:,}",
            str(actor.policy_version),
            f"{actor.policy_age_s:.1f}",
            f"{actor.latency_us / 1000:.1f}",
        )
    return table
