"""One transition as one fixed-width record: on the wire, in the actor's spool and in the replay log.

Little-endian and packed, so that its bytes mean the same everywhere. Needs numpy alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError

Rows = NDArray[np.void]  # (N,) of `transition_dtype`


class Success(IntEnum):
    """What is known about the episode's success at a transition."""

    UNKNOWN = -1
    NO = 0
    YES = 1


def transition_dtype(obs_dim: int, action_dim: int) -> np.dtype[np.void]:
    """Record of a transition.

    Fields: `obs` (S,) raw; `action` (A,) as executed; `next_obs` (S,); `reward`; `policy_version` that acted
    (0 where none did); `terminated` and `truncated`, 0 or 1; `starts`, 1 at the first of an episode;
    `intervention`, 1 where a person commanded; `success`, a `Success`; `spare`, zeros. An episode's transitions
    are consecutive in their session and its last one has `terminated` or `truncated` set, unless the actor
    was killed in between: then the next one with `starts` follows without.

    Args:
        obs_dim: S.
        action_dim: A.
    """
    fields: list[Any] = [
        ("obs", "<f4", (obs_dim,)),
        ("action", "<f4", (action_dim,)),
        ("next_obs", "<f4", (obs_dim,)),
        ("reward", "<f4"),
        ("policy_version", "<u4"),
        ("terminated", "u1"),
        ("truncated", "u1"),
        ("starts", "u1"),
        ("intervention", "u1"),
        ("success", "i1"),
        ("spare", "u1", (3,)),
    ]
    return np.dtype(fields)


def rows_from_bytes(block: bytes | memoryview, dtype: np.dtype[np.void], where: str) -> Rows:
    """Read-only view of `block` as transitions, (N,).

    Raises:
        DataError: If the bytes are not a whole number of records.
    """
    if len(block) % dtype.itemsize:
        raise DataError(
            f"{where}: {len(block)} bytes are no whole number of transitions of {dtype.itemsize} bytes. "
            f"Do both ends use the same spec and version?"
        )
    return np.frombuffer(block, dtype)
