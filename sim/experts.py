"""Scripted experts, so that the project can make its own demonstrations.

An expert sees what a policy sees: the flat observation, read through the spec's names. It is a small
state machine whose phases steer the grip point to a pose with proportional control. Gaussian noise and
pauses make its demonstrations cover what happens off the best path; the noisy action is the one executed
and recorded, so demonstrations stay truthful. `robot_rl.experts` finds them here by the environment's id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robot_rl.experts import Expert, ExpertMaker
from robot_rl.spec import Array, Spec
from sim.expert_door import DoorPlan
from sim.expert_lift import LiftPlan
from sim.expert_metaworld import MetaWorldPlan
from sim.expert_virtual import ReachExpert
from sim.metaworld_tasks import TASKS, env_id_of
from sim.named import Named
from sim.robosuite_shared import SENSORS


class Plan(Protocol):
    """What an arm with a gripper does next, without noise."""

    def reset(self) -> None:
        """Forget the episode before."""
        ...

    def action(self, seen: Named) -> NDArray[np.float64]:
        """Action in [-1, 1] for one observation, (A,); its last entry is the gripper's."""
        ...


class NoisyPlan:
    """An expert that follows a plan, with noise.

    Args:
        spec: Names of the observation it will be shown.
        plan: What it does.
        noise: Standard deviation of Gaussian noise on each arm entry of the action; 1 is full scale. The
            gripper, which closes or opens by the entry's sign, gets none.
        pause: Chance, at each step, of standing still for the next 2 to 6 steps, in [0, 1].
        called: Sensors that the plan asks for and the spec knows by another name.
    """

    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        *,
        noise: float = 0.1,
        pause: float = 0.0,
        called: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._spec, self._plan, self._called = spec, plan, called
        self._noise, self._pause = noise, pause
        self._arm = spec.action_dim - 1
        self._rng = np.random.default_rng(0)
        self._idle = 0
        self._gripper = -1.0

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is the only source of chance."""
        self._rng, self._idle, self._gripper = rng, 0, -1.0
        self._plan.reset()

    def act(self, obs: Array) -> Array:
        """Action to execute and record, (A,), in [-1, 1]."""
        if self._idle == 0 and self._pause and self._rng.random() < self._pause:
            self._idle = int(self._rng.integers(2, 7))
        if self._idle:
            self._idle -= 1
            action = np.zeros(self._arm + 1)
            action[-1] = self._gripper
        else:
            action = self._plan.action(Named(self._spec, obs, self._called))
            self._gripper = float(action[-1])
        action[: self._arm] += self._noise * self._rng.standard_normal(self._arm)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


def _robosuite(task: str, plan: Callable[[], Plan], spec: Spec, noise: float, pause: float) -> Expert:
    shared = spec.env_id.startswith("robosuite-shared/")
    called = {sensor: place for place, sensor in SENSORS[task].items()} if shared else {}
    return NoisyPlan(spec, plan(), noise=noise, pause=pause, called=called)


def _metaworld(task: str, spec: Spec, noise: float, pause: float) -> Expert:
    return NoisyPlan(spec, MetaWorldPlan(task), noise=noise, pause=pause)


def _reach(spec: Spec, noise: float, pause: float) -> Expert:
    return ReachExpert(spec, noise=noise, pause=pause)


EXPERTS: dict[str, ExpertMaker] = {
    **{
        f"{family}/{task}-v1": partial(_robosuite, task, plan)
        for family in ("robosuite", "robosuite-shared")
        for task, plan in (("Lift", LiftPlan), ("Door", DoorPlan))
    },
    "VirtualArm-v1": _reach,
    **{env_id_of(task): partial(_metaworld, task) for task in TASKS},
}
