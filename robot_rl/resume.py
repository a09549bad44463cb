"""What a run that is taken up again must have in common with the one that it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from robot_rl.algorithms.agent import Agent
from robot_rl.checkpoint import CONFIG, TRAIN_CONFIG, read_json, resolve
from robot_rl.config import to_mapping
from robot_rl.errors import CheckpointError


def require_same_learner(run: Path, agent: Agent, algorithm: str, agent_config: Any) -> None:
    """Refuse to go on with `agent`, as it was loaded from `run`, under another name or other options.

    Raises:
        CheckpointError: If they differ: the weights would be saved with options that they do not fit.
    """
    before = str(read_json(resolve(run) / CONFIG)["algorithm"])
    if before != algorithm:
        raise CheckpointError(
            f"{run} is a run of {before}, not of {algorithm}. Resume it as one, or choose another --out."
        )
    old, new = (json.loads(json.dumps(to_mapping(options))) for options in (agent.cfg, agent_config))
    odd = [f"--agent.{key.replace('_', '-')} was {old[key]}, not {new[key]}" for key in old if old[key] != new[key]]
    if odd:
        raise CheckpointError(
            f"{run} was begun with other options: {'; '.join(odd)}. Resume it by the same command (--start included), "
            f"or choose another --out."
        )


def require_same_rewards(run: Path, reward: str, world_model: Path | None, state: Mapping[str, Tensor]) -> None:
    """Refuse another rule of reward, and to go on without the world model that had its share of the batches.

    Args:
        run: Run folder.
        reward: The rule.
        world_model: Run of the world model; None without any.
        state: What the checkpoint holds beside the agent.

    Raises:
        CheckpointError: If they differ from those the run began with.
    """
    before = str(read_json(resolve(run) / TRAIN_CONFIG).get("reward", reward))
    if before != reward:
        raise CheckpointError(
            f"{run} holds transitions with --reward {before}, not {reward}. Resume it with the same --reward, or "
            f"choose another --out."
        )
    if world_model is None and "augment.model" in state:
        raise CheckpointError(f"{run} was trained with a world model. Resume it with the same --world-model.")
