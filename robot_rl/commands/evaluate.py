"""`robot-rl evaluate`: roll a trained policy out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from robot_rl.checkpoint import TRAIN_CONFIG, TrainedPolicy, load_policy, read_json, resolve
from robot_rl.config import parse
from robot_rl.console import key_value_table, make_console, print_json, progress_bar
from robot_rl.device import DeviceName, pick_device
from robot_rl.errors import ConfigError
from robot_rl.evaluate import Evaluation, act_with, open_env, rollout

DESCRIPTION = """Roll the policy of a run out in its environment and report return and success with 95 %
intervals. The i-th episode is reset with seed + i, so two runs with one seed see the same episodes."""

FIRST, AFTER_TRAINING = 1_000_000, 1_600_000  # see `first_seed`


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluate a policy."""

    run: tyro.conf.Positional[Path]  # run or checkpoint folder
    env: str = ""  # Gymnasium id; default the one its data came from
    episodes: int = 20  # how many episodes
    episode_steps: int | None = None  # time limit in steps; default the environment's
    seed: int | None = None  # of the first episode; default 1,000,000, or 1,600,000 where the run trained in those
    device: DeviceName = "cpu"  # where the policy runs
    json: bool = False  # one JSON object on standard output

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"--episodes is {self.episodes}; it must be at least 1.")


def main(argv: Sequence[str]) -> int:
    """Parse, roll out, print."""
    config = parse(EvaluateConfig, argv, prog="robot-rl evaluate", description=DESCRIPTION)
    policy, found = run(config)
    if config.json:
        print_json(_as_json(config, policy, found))
    else:
        print_evaluation(make_console(), config, policy, found)
    return 0


def run(config: EvaluateConfig) -> tuple[TrainedPolicy, Evaluation]:
    """Load the policy and roll it out.

    Raises:
        CheckpointError, EnvError, SpecMismatch: If run and environment do not work together.
    """
    torch.set_num_threads(1)
    device = pick_device(config.device)
    policy = load_policy(config.run, device=device)
    env = open_env(config.env, policy, config.episode_steps)
    with progress_bar(hidden=config.json) as bar:
        task = bar.add_task("episodes", total=config.episodes, note="")
        found = rollout(
            env,
            act_with(policy.module, device),
            episodes=config.episodes,
            seed=first_seed(config.run) if config.seed is None else config.seed,
            on_episode=lambda: bar.advance(task),
        )
    env.close()
    return policy, found


def first_seed(run: Path) -> int:
    """Of episodes that `run` was not trained in. With seed s, `finetune --in-turns` begins at s million.

    Its own evaluations begin half a million later; these later still.
    """
    train = read_json(resolve(run) / TRAIN_CONFIG)
    return AFTER_TRAINING if train.get("in_turns") and train.get("seed") == 1 else FIRST


def print_evaluation(console: Console, config: EvaluateConfig, policy: TrainedPolicy, found: Evaluation) -> None:
    """The figures as a table."""
    low, high = found.return_interval
    rows = {
        "policy": f"{policy.algorithm}, {policy.step:,} updates",
        "episodes": f"{config.episodes}, seeds from {found.seed}",
        "return": f"{found.mean_return:.2f}  (95 % interval {low:.2f} to {high:.2f})",
        "length": f"{sum(found.lengths) / len(found.lengths):.0f} steps",
    }
    if found.success_interval is not None:
        low, high = found.success_interval
        rows["success"] = f"{found.success_rate:.1%}  (95 % interval {low:.1%} to {high:.1%})"
    console.print(key_value_table(config.env or policy.spec.env_id, rows))


def _as_json(config: EvaluateConfig, policy: TrainedPolicy, found: Evaluation) -> dict[str, Any]:
    return {
        "run": str(config.run),
        "env": config.env or policy.spec.env_id,
        "algorithm": policy.algorithm,
        "updates": policy.step,
        "episodes": config.episodes,
        "seed": found.seed,
        "return": {"mean": found.mean_return, "interval_95": found.return_interval},
        "success": {"rate": found.success_rate, "interval_95": found.success_interval},
        "returns": found.returns,
        "lengths": found.lengths,
        "successes": found.successes,
    }
