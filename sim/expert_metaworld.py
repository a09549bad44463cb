"""Meta-World's own scripted policies as experts."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from sim.metaworld_spec import METAWORLD_DIM
from sim.metaworld_tasks import VERSION
from sim.named import Named


class MetaWorldPlan:
    """What Meta-World's policy for a task does next: proportional control towards way points.

    Args:
        task: Meta-World's name without its version, such as "door-close".

    Raises:
        EnvError: If Meta-World is not installed.
    """

    def __init__(self, task: str) -> None:
        try:
            from metaworld.policies import ENV_POLICY_MAP  # noqa: PLC0415 - a heavy optional dependency
        except ImportError as error:
            raise EnvError(
                f"The expert for '{task}' is Meta-World's, which cannot be imported ({error}). "
                f"Try `pip install -e '.[metaworld]'`."
            ) from error
        self._policy = ENV_POLICY_MAP[f"{task}-{VERSION}"]()

    def reset(self) -> None:
        """Nothing to forget: the policies have no memory."""

    def action(self, seen: Named) -> NDArray[np.float64]:
        """Action in [-1, 1] for one observation, (4,)."""
        with warnings.catch_warnings():
            # Far from a way point the command exceeds 1, as it should; clipping follows.
            warnings.filterwarnings("ignore", message="Constant.*may be too high")
            action = self._policy.get_action(seen.flat()[:METAWORLD_DIM])
        return np.clip(action.astype(np.float64), -1.0, 1.0)
