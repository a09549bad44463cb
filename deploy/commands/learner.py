"""`robot-rl learner`: learn from what actors deliver."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from deploy.commands.finetune import defaults_of_start, print_results, serve_actors
from deploy.online.learner import LearnerConfig
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.errors import ConfigError
from robot_rl.interrupt import interrupt_sets

DESCRIPTION = """Learn from the transitions of any number of actors, in other processes or on other machines:
`robot-rl learner awac|iql|sac|td3-bc --start RUN --out RUN2`, then `robot-rl actor` on each robot.

Every transition is in RUN2/transitions before its actor may forget it. Ctrl-C, or a crash, loses none:
--resume goes on from the last checkpoint and takes up all that arrived since. Beyond this machine, bind to
tcp://HOST:PORT with --key; see docs/bridge.md."""


def main(argv: Sequence[str]) -> int:
    """Parse, learn, and say where things are."""
    config = parse(
        LearnerConfig,
        argv,
        prog="robot-rl learner",
        description=DESCRIPTION,
        defaults=defaults_of_start(list(argv)),
    )
    if config.intervene_share:
        raise ConfigError(
            f"--intervene-share {config.intervene_share:g} is for whoever acts: give it to `robot-rl actor --teleop "
            f"scripted`."
        )
    stop = threading.Event()
    with interrupt_sets(stop):
        results, done = serve_actors(config, stop)
    print_results(make_console(), config, results, done=done)
    return 0 if done else 130
