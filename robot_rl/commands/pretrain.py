"""`robot-rl pretrain`: offline training."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from robot_rl.algorithms.registry import CONFIGS
from robot_rl.config import chosen_kind, parse
from robot_rl.console import key_value_table
from robot_rl.pretrain import PretrainConfig, pretrain

DESCRIPTION = """Train a policy offline on a dataset:
`robot-rl pretrain bc|td3-bc|awac|iql|sac|dqn --data DIR --out RUN`.

Options of the learner are dotted: `--agent.discount 0.97`. Every option of one learner is shown by
`robot-rl pretrain awac --help`. The run folder holds the resolved config, metrics, TensorBoard events, a
picture of the learning curve and checkpoints; `--resume` goes on from the last of them, bit for bit.
`--world-model RUN` takes a share of each batch from a model made by `robot-rl world-model`."""


def main(argv: Sequence[str]) -> int:
    """Parse, train, and say where things are."""
    name = chosen_kind(argv, CONFIGS, key="algorithm", what="a learner", default="bc")
    config = parse(
        PretrainConfig,
        argv,
        prog="robot-rl pretrain",
        description=DESCRIPTION,
        defaults={"agent": CONFIGS[name]()},
    )
    results = pretrain(config)
    out = Console(highlight=False)
    rows = {"run": str(config.out), "curve": str(config.out / "learning_curve.png")}
    if "eval/return" in results:
        rows["return"] = with_interval(results, "eval/return", "{:.1f}")
    if "eval/success" in results:
        rows["success"] = with_interval(results, "eval/success", "{:.0%}")
    out.print(key_value_table(f"{config.algorithm}, {config.steps:,} updates", rows))
    out.print(f"Next: robot-rl evaluate {config.out}   or   robot-rl export {config.out} --out BUNDLE", markup=False)
    return 0


def with_interval(results: dict[str, float], name: str, form: str) -> str:
    """A figure of an evaluation with its 95 % interval, each formatted by `form`."""
    low, high = form.format(results[f"{name}_low"]), form.format(results[f"{name}_high"])
    return f"{form.format(results[name])}  (95 % interval {low} to {high})"
