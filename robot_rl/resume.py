"""What a run that is taken up again must have in common with the one that it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from robot_rl.checkpoint import TRAIN_CONFIG, read_json, resolve
from robot_rl.config import to_mapping
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import CheckpointError

ONLINE = "interactions"  # in the state of runs that learn online
SHOWN = 6  # differences that a message lists


def require_unbegun(run: Path, *, resume: bool, counts: str = "update") -> None:
    """Refuse to begin where a run already lies, unless it is to be gone on with.

    Args:
        run: Run folder.
        resume: Whether it is.
        counts: What its checkpoints are numbered by.

    Raises:
        CheckpointError: Naming how far it came.
    """
    if not resume and (run / "checkpoints" / "last").exists():
        raise CheckpointError(
            f"{run} already holds a run at {counts} {resolve(run).name.lstrip('0') or '0'}. "
            f"Add --resume to go on with it, or choose another --out."
        )


def require_as_begun(run: Path, config: Any, keys: Sequence[str], *, free: Sequence[str] = ()) -> None:
    """Refuse to go on with a run by other options than it was begun with.

    The networks come from the checkpoint, so other options would be written beside weights that they don't fit.

    Args:
        run: Run folder.
        config: Resolved options that it is to go on with.
        keys: Those that have to be the same.
        free: Dotted names below them that may change, with all that is below.

    Raises:
        CheckpointError: Naming each option with both values.
    """
    began = read_json(resolve(run) / TRAIN_CONFIG)
    now = cast("dict[str, Any]", json.loads(json.dumps(to_mapping(config))))
    odd = [
        f"--{name.replace('_', '-')} is {_shown(new)} here, {_shown(old)} in the run"
        for key in keys
        if key in began and key in now
        for name, new, old in _differences(key, now[key], began[key])
        if not any(name == part or name.startswith(f"{part}.") for part in free)
    ]
    if odd:
        shown = "\n  - ".join(odd[:SHOWN] + ([f"and {len(odd) - SHOWN} more"] if len(odd) > SHOWN else []))
        raise CheckpointError(
            f"{run} was begun with other options:\n  - {shown}\nGo on with the same command and --resume, or with "
            f"--config {run}/config.yaml --resume; or choose another --out."
        )


def require_same_logs(run: Path, logs: Path, seen: ObservationStats, frozen: ObservationStats) -> None:
    """Refuse to go on with a run on other logs than it was begun with.

    Args:
        run: Run folder.
        logs: Those that are given.
        seen: Statistics of what is to be learned from in them.
        frozen: The run's.

    Raises:
        CheckpointError: Naming both.
    """
    if not seen.agrees(frozen):
        began = read_json(resolve(run) / TRAIN_CONFIG).get("data")
        raise CheckpointError(
            f"What is to be learned from in {logs} is not what {run} was begun with (then from {began}): the "
            f"observations have other means or deviations. Resume with the same logs, or learn from these with another "
            f"--out."
        )


def require_model_given(run: Path, model: Path | None, state: Mapping[str, Any]) -> None:
    """Refuse to go on without a world model where there was one.

    Args:
        run: Run folder.
        model: Run folder of the world model that is given.
        state: The run's last checkpoint's tensors.

    Raises:
        CheckpointError: If none is and there was one.
    """
    if model is None and "augment.model" in state:
        raise CheckpointError(f"{run} was trained with a world model. Resume it with the same --world-model.")


def require_pretrained(run: Path, state: Mapping[str, Any]) -> None:
    """Refuse to go on offline with a run that learned online.

    Args:
        run: Run folder.
        state: Its last checkpoint's tensors.

    Raises:
        CheckpointError: If it did.
    """
    if ONLINE in state:
        raise CheckpointError(
            f"{run} is a run of `robot-rl finetune`, after {int(state[ONLINE])} interactions: go on with it by "
            f"`robot-rl finetune ... --resume`, or pretrain with another --out."
        )


def require_online(run: Path, state: Mapping[str, Any]) -> None:
    """Refuse to go on online with a run that was pretrained; as `require_pretrained`.

    Raises:
        CheckpointError: If it was.
    """
    if ONLINE not in state:
        raise CheckpointError(
            f"{run} is a run of `robot-rl pretrain`: fine-tune its policy with --start {run} and another --out."
        )


def require_not_beyond(run: Path, done: int, steps: int, what: str = "updates") -> None:
    """Refuse to go on with a run to fewer steps than it has had; as many are fine, and nothing is left to do.

    Args:
        run: Run folder.
        done: Steps that it has had.
        steps: Those that are asked for.
        what: Their name: updates, or interactions.

    Raises:
        CheckpointError: Naming both.
    """
    if done > steps:
        raise CheckpointError(
            f"{run} has had {done:,} {what}, and --steps is {steps:,}: there is nothing to go on with. --steps counts "
            f"from the run's beginning; give more than {done:,}."
        )


def _shown(value: Any) -> str:
    return "not given" if value is None or value == "" else str(value)


def _differences(name: str, new: Any, old: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted names of options that differ, with both values; an option that only one side knows is passed over."""
    if isinstance(new, dict) and isinstance(old, dict):
        new, old = cast("dict[str, Any]", new), cast("dict[str, Any]", old)
        for key in [key for key in new if key in old]:
            yield from _differences(f"{name}.{key}", new[key], old[key])
    elif new != old:
        yield name, new, old
