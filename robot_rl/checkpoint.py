"""Checkpoints: everything a run needs to go on as if it had never stopped.

    RUN/checkpoints/<step>/pretrained_model/{config.json, model.safetensors, train_config.json}
    RUN/checkpoints/<step>/training_state/{state.safetensors, progress.json}
    RUN/checkpoints/last -> <step>

Each is written under a temporary name, synced and renamed; `last` moves afterwards. No pickle.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.registry import CONFIGS, build_agent
from robot_rl.config import from_mapping, to_mapping
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.spec import Spec

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy read back from a run.

    Args:
        module: Raw observation (B, S) -> executable action (B, A), deterministic.
        spec: Meaning of both.
        stats: Frozen observation statistics inside `module`.
        step: Gradient updates it has seen; the weight version.
        algorithm: Its learner's name.
        data: Dataset folder it was trained on; may be gone.
        run: Run folder.
    """

    module: nn.Module
    spec: Spec
    stats: ObservationStats
    step: int
    algorithm: str
    data: Path
    run: Path


def save_checkpoint(
    run: Path,
    agent: Agent,
    *,
    algorithm: str,
    agent_config: Any,
    train_config: Any,
    progress: dict[str, Tensor],
) -> Path:
    """Write checkpoint `agent.updates` of `run` and point `last` at it.

    Args:
        run: Run folder.
        agent: Networks, optimisers and generators to keep.
        algorithm: Name in the registry.
        agent_config: The agent's config dataclass.
        train_config: The run's resolved config.
        progress: Further named tensors, such as the sampler's generator.
    """
    folder = run / "checkpoints"
    final = folder / f"{agent.updates:08d}"
    work = folder / f".{final.name}.tmp-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    model, state = work / "pretrained_model", work / "training_state"
    model.mkdir(parents=True)
    state.mkdir()
    config = {
        "format_version": FORMAT_VERSION,
        "algorithm": algorithm,
        "agent": to_mapping(agent_config),
        "spec": agent.spec.to_dict(),
        "statistics": {
            "mean": agent.stats.mean.tolist(),
            "std": agent.stats.std.tolist(),
            "sha256": agent.stats.digest,
        },
        "updates": agent.updates,
    }
    _write_json(model / "config.json", config)
    _write_json(model / "train_config.json", to_mapping(train_config))
    save_file(_contiguous(agent.state_dict()), model / "model.safetensors")
    save_file(_contiguous(agent.training_state() | progress), state / "state.safetensors")
    for file in work.rglob("*"):
        if file.is_file():
            _sync(file)
    shutil.rmtree(final, ignore_errors=True)
    work.rename(final)
    _point_last(folder, final.name)
    return final


def load_agent(path: Path, *, device: str = "cpu") -> tuple[Agent, dict[str, Tensor]]:
    """Agent of a run or checkpoint folder, with optimisers and generators as they were saved.

    Returns:
        The agent, and the tensors given as `progress`.

    Raises:
        CheckpointError: If a file is missing, damaged, or does not fit the rest.
    """
    folder = resolve(path)
    config = _read_config(folder)
    agent = _build(config, folder, device)
    own, saved = agent.state_dict(), _load_tensors(folder / "pretrained_model" / "model.safetensors")
    if own.keys() != saved.keys():
        odd = sorted(own.keys() ^ saved.keys())
        raise CheckpointError(f"{folder}: model.safetensors does not fit config.json; unmatched: {odd[:4]}.")
    agent.load_state_dict(saved)
    state = _load_tensors(folder / "training_state" / "state.safetensors")
    agent.load_training_state(state)
    return agent, state


def load_policy(path: Path, *, device: str = "cpu") -> TrainedPolicy:
    """The deterministic policy of a run or checkpoint folder.

    Raises:
        CheckpointError: As `load_agent`.
    """
    folder = resolve(path)
    agent, _ = load_agent(folder, device=device)
    config = _read_config(folder)
    train = _read_json(folder / "pretrained_model" / "train_config.json")
    return TrainedPolicy(
        module=agent.policy.eval(),
        spec=agent.spec,
        stats=agent.stats,
        step=agent.updates,
        algorithm=str(config["algorithm"]),
        data=Path(str(train.get("data", ""))),
        run=folder.parents[1],
    )


def resolve(path: Path) -> Path:
    """The checkpoint folder meant by `path`: itself, or the `last` one of a run folder.

    Raises:
        CheckpointError: If there is none.
    """
    for folder in (path, path / "checkpoints" / "last"):
        if (folder / "pretrained_model" / "config.json").is_file():
            return folder.resolve()
    if not path.exists():
        raise CheckpointError(f"No run at {path}: no such folder. Train one with `robot-rl pretrain`.")
    raise CheckpointError(
        f"{path} is not a run: neither {path}/checkpoints/last nor {path}/pretrained_model holds a "
        f"config.json. Give the folder that was --out, or one of its checkpoints."
    )


def _build(config: dict[str, Any], folder: Path, device: str) -> Agent:
    try:
        if config["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder} has checkpoint version {config['format_version']}, this program reads {FORMAT_VERSION}."
            )
        spec = Spec.from_dict(config["spec"])
        raw = config["statistics"]
        stats = ObservationStats(np.asarray(raw["mean"], np.float32), np.asarray(raw["std"], np.float32))
        if stats.digest != raw["sha256"]:
            raise CheckpointError(f"{folder}: the statistics do not match their hash; the file was altered.")
        cfg = from_mapping(CONFIGS[config["algorithm"]], config["agent"], f"{folder}: agent")
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: config.json is not usable ({error}). Train again.") from error
    return build_agent(cfg, spec, stats, device=device)


def _read_config(folder: Path) -> dict[str, Any]:
    return _read_json(folder / "pretrained_model" / "config.json")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). Use an earlier checkpoint.") from error


def _load_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). Use an earlier checkpoint.") from error


def _contiguous(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items() if torch.is_tensor(v)}


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2))


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _point_last(folder: Path, name: str) -> None:
    link = folder / f".last.tmp-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(folder / "last")
