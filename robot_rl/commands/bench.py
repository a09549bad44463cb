"""`robot-rl bench NAME`: the measurements, each registered by the package that it measures."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.config import nearest
from robot_rl.console import make_console
from robot_rl.errors import ConfigError
from robot_rl.registered import load, registered

SUMMARIES = {
    "update": "gradient updates per second, beside a plain implementation and the matrix peak",
    "world-model": "what augmentation adds to an update; time to train the models",
    "small-data": "interactions to a score after pretraining on 10,000 transitions, with all its arms",
    "data": "importing, loading, examining and sampling: transitions per second and peak memory",
    "import": "each log's import in a process of its own: transitions per second of its parts, peak memory",
    "franka": "the control loop on franky-sim, and what it does when something breaks",
    "serve": "the control tick part by part, beside an empty loop at the same rate",
    "safety": "random command streams against the supervisor: no limit may be broken",
    "server": "round trips to a policy server, beside a bare ZeroMQ echo",
    "offline": "learners x seeds on one dataset, trained and evaluated as a recipe file says",
    "online": "fine-tuning, arms x seeds: success over interactions, the fall at switch-over",
    "bridge": "transitions per second, cost of a publish on the tick, weight updates",
    "chaos": "kill actors and learners, spoil the network: what is lost, doubled or late",
}


def main(argv: Sequence[str]) -> int:
    """Find the bench and run it."""
    benches = registered("robot_rl.benches")
    if not argv or argv[0] in ("-h", "--help"):
        out = make_console()
        out.print("usage: robot-rl bench NAME [options]\n", markup=False)
        for name in sorted(benches):
            out.print(f"  [cyan]{name:<12}[/] {SUMMARIES.get(name, '')}")
        return 0 if argv else 2
    if argv[0] not in benches:
        raise ConfigError(f"No bench '{argv[0]}'.{nearest(argv[0], benches)}")
    return int(load(benches[argv[0]])(list(argv[1:])) or 0)
