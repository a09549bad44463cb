"""Scripted experts by their environment's id: stand-ins for a person.

`robot_rl` never imports `sim`: installed packages name a mapping {environment id: maker} in the entry-point group
`robot_rl.experts`. Needs no torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np

from robot_rl.config import nearest
from robot_rl.errors import EnvError
from robot_rl.registered import load
from robot_rl.spec import Array, Spec

GROUP = "robot_rl.experts"


class Expert(Protocol):
    """Acts on observations."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is the only source of chance."""
        ...

    def act(self, obs: Array) -> Array:
        """Action to execute and record, (A,)."""
        ...


ExpertMaker = Callable[[Spec, float, float], Expert]
"""The environment's spec, noise and pause, as `make_expert` has them."""


def make_expert(env_id: str, spec: Spec, *, noise: float = 0.1, pause: float = 0.0) -> Expert:
    """The scripted expert of an environment.

    Args:
        env_id: Gymnasium id.
        spec: The environment's spec.
        noise: Standard deviation of Gaussian noise on the action; 1 is full scale.
        pause: Chance, at each step, of standing still for a few steps, in [0, 1].

    Raises:
        EnvError: If nobody has written one; the message names those there are.
    """
    known = known_experts()
    if env_id not in known:
        raise EnvError(f"There is no scripted expert for '{env_id}'.{nearest(env_id, known)}")
    return known[env_id](spec, noise, pause)


@functools.cache
def known_experts() -> Mapping[str, ExpertMaker]:
    """Every expert of the installed packages, by environment id."""
    found: dict[str, ExpertMaker] = {}
    for point in entry_points(group=GROUP):
        found.update(load(point))
    return found
