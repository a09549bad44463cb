"""`robot-rl finetune`: online fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from robot_rl.algorithms.registry import CONFIGS
from robot_rl.checkpoint import load_agent, load_policy
from robot_rl.commands.pretrain import learner_name, with_interval
from robot_rl.config import load_yaml, parse
from robot_rl.console import key_value_table
from robot_rl.finetune import finetune
from robot_rl.online_run import FinetuneConfig

DESCRIPTION = """Fine-tune a policy online:
`robot-rl finetune awac|iql|sac|td3-bc --start RUN --out RUN2`.

--start takes a pretrained run: with the same learner everything is carried over, with another one its actor.
Without it, sac with --data is RLPD. Logged data stay in every batch (--offline-share). At first the policy
only collects (--warmup); then come updates of the critics alone (--critic-warmup), then --utd updates an
interaction. Ctrl-C saves at the end of the running episode; --resume goes on, bit for bit."""


def main(argv: Sequence[str]) -> int:
    """Parse, fine-tune, and say where things are."""
    config = parse(
        FinetuneConfig,
        argv,
        prog="robot-rl finetune",
        description=DESCRIPTION,
        defaults={"agent": _agent_defaults(list(argv))},
    )
    results = finetune(config)
    out = Console(highlight=False)
    rows = {"run": str(config.out), "curve": str(config.out / "learning_curve.png")}
    for name, form in (("eval/return", "{:.1f}"), ("eval/success", "{:.0%}")):
        if name in results:
            rows[name.removeprefix("eval/")] = with_interval(results, name, form)
    out.print(key_value_table(f"{config.algorithm}, {config.steps:,} interactions", rows))
    out.print(f"Next: robot-rl evaluate {config.out}   or   robot-rl export {config.out} --out BUNDLE", markup=False)
    return 0


def _agent_defaults(argv: list[str]) -> Any:
    """The learner's options: those of --start where that is the same learner, else the class defaults."""
    name = learner_name(argv, default="awac")
    file = _value_of(argv, "--config")
    start = _value_of(argv, "--start") or (load_yaml(Path(file)).get("start") if file else None)
    if start and load_policy(Path(start)).algorithm == name:
        return load_agent(Path(start))[0].cfg
    return CONFIGS[name]()


def _value_of(argv: list[str], option: str) -> str | None:
    for i, word in enumerate(argv):
        if word == option and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None
