"""`robot-rl locomotion`: logs of named quality for bodies that walk, and two discrete tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from robot_rl.config import parse, to_mapping
from robot_rl.console import key_value_table, make_console, print_json, progress_bar
from robot_rl.data.dataset import write_dataset
from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode, feed
from robot_rl.envs import env_spec, make_env
from sim.locomotion_logs import SCORES, Quality, Trained, TrainingPlan, make_logs, normalised_score, train

DESCRIPTION = """Train an agent from a seed, TD3 or DQN, and write logs of named quality: one dataset folder each
under --out.

    robot-rl locomotion --plan.env HalfCheetah-v5 --out data/halfcheetah --transitions 10000

Training takes about a quarter of an hour per 100,000 steps on one core; `--qualities random` needs none and
takes any environment. The same options and seed make the same logs; recipe.json keeps the options, the
learning curve and the SHA-256 of every log."""


@dataclass(frozen=True, kw_only=True)
class LocomotionConfig:
    """Make logs of named quality."""

    out: Path  # folder for the datasets; must not exist
    plan: TrainingPlan = field(default_factory=TrainingPlan)  # the agent's training
    transitions: int = 10_000  # in each log
    qualities: tuple[Quality, ...] = field(default=("random", "medium-replay", "medium-expert"))  # which logs
    json: bool = False  # print recipe.json instead of a table


def main(argv: Sequence[str]) -> int:
    """Parse, train, write, tabulate."""
    config = parse(LocomotionConfig, argv, prog="robot-rl locomotion", description=DESCRIPTION)
    require_new(config.out)
    torch.set_num_threads(1)
    trained = None if set(config.qualities) == {"random"} else _trained(config)
    spec = env_spec(make_env(config.plan.env))
    logs: dict[str, dict[str, object]] = {}
    for quality in config.qualities:
        episodes = make_logs(config.plan, trained, quality, config.transitions)
        origin = f"locomotion:{config.plan.env}:{quality}:seed {config.plan.seed}"
        write_dataset(config.out / quality, spec, episodes, origin=origin)
        logs[quality] = _facts(config.plan.env, episodes)
    recipe: dict[str, object] = {"options": to_mapping(config), "logs": logs}
    if trained is not None:
        recipe |= {
            "medium_reached": trained.reached,
            "scores": {"medium": trained.medium_score, "expert": trained.expert_score},
            "curve": trained.curve,
        }
    (config.out / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
    if config.json:
        print_json(recipe)
        return 0
    rows = {q: ", ".join(f"{name} {value}" for name, value in log.items()) for q, log in logs.items()}
    make_console().print(key_value_table(f"{config.plan.env} in {config.out}", rows))
    if trained is not None and not trained.reached:
        best = max((score for _, score in trained.curve), default=0.0)
        make_console(stderr=True).print(
            f"[yellow]score {config.plan.medium:g} was not reached (best {best:.1f}); medium is the last agent."
        )
    return 0


def _trained(config: LocomotionConfig) -> Trained:
    with progress_bar(hidden=config.json) as bar:
        task = bar.add_task(config.plan.env, total=config.plan.steps, note="")
        return train(config.plan, lambda step, score: bar.update(task, completed=step, note=f"score {score:.1f}"))


def _facts(env_id: str, episodes: Sequence[Episode]) -> dict[str, object]:
    whole = [e.return_ for e in episodes if "first" not in e.source] or [episodes[-1].return_]
    mean = sum(whole) / len(whole)
    facts: dict[str, object] = {"episodes": len(episodes), "return": round(mean, 2)}
    if env_id in SCORES:
        facts["score"] = round(normalised_score(env_id, mean), 2)
    return facts | {"sha256": digest(episodes)}


def digest(episodes: Sequence[Episode]) -> str:
    """SHA-256 over all arrays of a log."""
    total = hashlib.sha256()
    for episode in episodes:
        feed(total.update, episode)
    return total.hexdigest()
