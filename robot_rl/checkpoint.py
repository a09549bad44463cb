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
from typing import Any, Literal, cast

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
CONFIG = "pretrained_model/config.json"
TRAIN_CONFIG = "pretrained_model/train_config.json"
WEIGHTS = "pretrained_model/model.safetensors"
STATE = "training_state/state.safetensors"

Kind = Literal["algorithm", "world_model", "teacher"]  # the key of config.json that tells what a run holds
_KINDS: dict[Kind, tuple[str, str]] = {
    "algorithm": ("policy", "robot-rl pretrain"),
    "world_model": ("world model", "robot-rl world-model"),
    "teacher": ("teacher", "robot-rl pretrain teacher"),
}


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy read back from a run.

    Args:
        module: Raw observation (B, S) -> executable action (B, A), deterministic.
        spec: Meaning of both.
        stats: Frozen observation statistics inside `module`.
        step: Gradient updates it has seen; the weight version.
        algorithm: Its learner's name.
        data: Dataset folder it was trained on; may be gone. `Path()` where there was none.
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

    Raises:
        DivergedError: If a weight is not finite; nothing is written.
    """
    agent.require_finite()
    config = {
        "format_version": FORMAT_VERSION,
        "algorithm": algorithm,
        "agent": to_mapping(agent_config),
        "spec": agent.spec.to_dict(),
        "statistics": statistics_to_dict(agent.stats),
        "updates": agent.updates,
    }
    return write_checkpoint(
        run,
        agent.updates,
        config=config,
        train_config=to_mapping(train_config),
        weights=agent.state_dict(),
        state=agent.training_state() | progress,
    )


def write_checkpoint(
    run: Path,
    number: int,
    *,
    config: dict[str, Any],
    train_config: dict[str, Any],
    weights: dict[str, Any],
    state: dict[str, Tensor],
) -> Path:
    """Write the files of checkpoint `number`, all or nothing, and point `last` at it."""
    folder = run / "checkpoints"
    final = folder / f"{number:08d}"
    work = folder / f".{final.name}.tmp-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        (work / "pretrained_model").mkdir(parents=True)
        (work / "training_state").mkdir()
        _write_json(work / CONFIG, config)
        _write_json(work / TRAIN_CONFIG, train_config)
        save_file(_contiguous(weights), work / WEIGHTS)
        save_file(_contiguous(state), work / STATE)
        for file in work.rglob("*"):
            if file.is_file():
                _sync(file)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise CheckpointError(
            f"{final} cannot be written ({error}). The checkpoint before it is kept: see to the disk, then go on from "
            f"there with --resume."
        ) from error
    _put_in_place(work, final)
    return final


def load_agent(path: Path, *, device: str = "cpu") -> tuple[Agent, dict[str, Tensor]]:
    """Agent of a run or checkpoint folder, with optimisers and generators as they were saved.

    Returns:
        The agent, and the tensors given as `progress`.

    Raises:
        CheckpointError: If a file is missing, damaged, or does not fit the rest.
    """
    folder, config = open_checkpoint(path, "algorithm")
    return _restore(config, folder, device)


def load_policy(path: Path, *, device: str = "cpu") -> TrainedPolicy:
    """The deterministic policy of a run or checkpoint folder.

    Raises:
        CheckpointError: As `load_agent`.
    """
    folder, config = open_checkpoint(path, "algorithm")
    agent, _ = _restore(config, folder, device)
    train = read_json(folder / TRAIN_CONFIG)
    return TrainedPolicy(
        module=agent.policy.eval(),
        spec=agent.spec,
        stats=agent.stats,
        step=agent.updates,
        algorithm=str(config["algorithm"]),
        data=Path(str(train.get("data") or "")),
        run=folder.parents[1],
    )


def open_checkpoint(path: Path, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """The checkpoint folder meant by `path` and its config.

    Args:
        path: A run or checkpoint folder.
        kind: What it has to hold.

    Raises:
        CheckpointError: If there is none, or it holds something else.
    """
    what, command = _KINDS[kind]
    if not path.exists():
        raise CheckpointError(f"No {what} at {path}: no such folder. Train one with `{command}`.")
    folder = resolve(path)
    config = read_json(folder / CONFIG)
    if kind not in config:
        if "algorithm" in config:
            found = f"a {config['algorithm']} policy"
        else:
            found = next((f"a {name}" for key, (name, _) in _KINDS.items() if key in config), "nothing of robot-rl's")
        raise CheckpointError(
            f"{path} holds {found}, not a {what}. Give the run folder of a {what}; `{command}` makes one."
        )
    return folder, config


def resolve(path: Path) -> Path:
    """The checkpoint folder meant by `path`: itself, or the `last` one of a run folder.

    Raises:
        CheckpointError: If there is none.
    """
    for folder in (path, path / "checkpoints" / "last"):
        if (folder / "pretrained_model" / "config.json").is_file():
            return folder.resolve()
    if not path.exists():
        raise CheckpointError(f"No run at {path}: no such folder. Give the folder that was --out.")
    raise CheckpointError(
        f"{path} is not a run: neither {path}/checkpoints/last nor {path}/pretrained_model holds a "
        f"config.json. Give the folder that was --out, or one of its checkpoints."
    )


def _restore(config: dict[str, Any], folder: Path, device: str) -> tuple[Agent, dict[str, Tensor]]:
    agent = _build(config, folder, device)
    load_weights(agent, folder)
    state = read_tensors(folder / STATE)
    agent.load_training_state(state)
    return agent, state


def _build(config: dict[str, Any], folder: Path, device: str) -> Agent:
    try:
        if config["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder} has checkpoint version {config['format_version']}, this program reads {FORMAT_VERSION}."
            )
        spec = Spec.from_dict(config["spec"])
        stats = statistics_from_dict(config["statistics"], folder)
        cfg = from_mapping(CONFIGS[config["algorithm"]], config["agent"], f"{folder}: agent")
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: config.json is not usable ({error}). Train again.") from error
    return build_agent(cfg, spec, stats, device=device)


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill `module` from the weights of a checkpoint folder.

    Raises:
        CheckpointError: If they are damaged or belong to another module.
    """
    own, saved = module.state_dict(), read_tensors(folder / WEIGHTS)
    if own.keys() != saved.keys():
        odd = sorted(own.keys() ^ saved.keys())
        raise CheckpointError(f"{folder}: model.safetensors does not fit config.json; unmatched: {odd[:4]}.")
    module.load_state_dict(saved)


def statistics_to_dict(stats: ObservationStats) -> dict[str, Any]:
    """Statistics with their hash, as config.json holds them."""
    return {"mean": stats.mean.tolist(), "std": stats.std.tolist(), "sha256": stats.digest}


def statistics_from_dict(raw: dict[str, Any], folder: Path) -> ObservationStats:
    """Inverse of `statistics_to_dict`.

    Raises:
        CheckpointError: If they do not match their hash.
    """
    stats = ObservationStats(np.asarray(raw["mean"], np.float32), np.asarray(raw["std"], np.float32))
    if stats.digest != raw["sha256"]:
        raise CheckpointError(f"{folder}: the statistics do not match their hash; the file was altered.")
    return stats


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        return cast("dict[str, Any]", json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). Use an earlier checkpoint.") from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Named tensors of a checkpoint.

    Raises:
        CheckpointError: If they cannot be read.
    """
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


def _put_in_place(work: Path, final: Path) -> None:
    """Rename `work` to `final` and point `last` there; whenever this is cut, `last` points at a whole checkpoint."""
    aside = final.with_name(f".{final.name}.old")
    if final.exists() and (final.parent / "last").resolve() == final.resolve():  # saved twice at the same update
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(final, aside, copy_function=os.link)  # the same files under a second name
        _point_last(final.parent, aside.name)
    shutil.rmtree(final, ignore_errors=True)
    work.rename(final)
    _point_last(final.parent, final.name)
    shutil.rmtree(aside, ignore_errors=True)


def _point_last(folder: Path, name: str) -> None:
    link = folder / f".last.tmp-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    last = folder / "last"
    if last.is_dir() and not last.is_symlink():  # the run was copied by something that follows links
        copied = folder / f".last.copied-{os.getpid()}"
        last.rename(copied)
        link.replace(last)
        shutil.rmtree(copied)
    else:
        link.replace(last)
