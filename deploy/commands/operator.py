"""`robot-rl operator SOCKET WORD`: the operator's station in another terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from deploy.operator.station import tell
from robot_rl.config import parse
from robot_rl.console import make_console

DESCRIPTION = """Talk to a running `robot-rl serve` or `robot-rl actor` with --socket SOCKET: emergency stop, arm
again after a stop, end, ask how it is; to an actor also: the scene is set (go), the episode succeeded or failed.
`beat` keeps sending signs of life until Ctrl-C: an arm whose file sets operator_timeout_s holds without.

    robot-rl operator /tmp/arm.sock stop"""


@dataclass(frozen=True, kw_only=True)
class OperatorConfig:
    """Speak for the operator."""

    socket: tyro.conf.Positional[Path]  # what was given to `serve --socket`
    word: tyro.conf.Positional[
        Literal["stop", "arm", "go", "success", "failure", "end", "status", "beat"]
    ]  # what to say
    period: float = 0.1  # seconds between signs of life


def main(argv: Sequence[str]) -> int:
    """Say it once, or keep beating."""
    config = parse(OperatorConfig, argv, prog="robot-rl operator", description=DESCRIPTION)
    out = make_console()
    out.print(tell(config.socket, config.word), markup=False)
    while config.word == "beat":
        time.sleep(config.period)
        tell(config.socket, "beat")
    return 0
