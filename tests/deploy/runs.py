"""What tests read out of run folders."""

from __future__ import annotations

from pathlib import Path

from robot_rl.checkpoint import load_agent
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.transition import Rows


def transitions(out: Path) -> Rows:
    """All rows of a run's replay log, in the order in which they were acknowledged."""
    log = ReplayLog(out / "transitions", load_agent(out)[0].spec)
    rows = log.read()
    log.close()
    return rows
