"""Action chunks: a policy that plans H actions for one observation, played one a policy step.

After `replan_every` actions of a plan the next step plans anew, from the observation of that moment; the rest
of the old plan is dropped. Plans are not averaged over time. ACT (Zhao et al. 2023, arXiv:2304.13705) calls
such a plan an action chunk.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from deploy.bundle.contract import Contract
from robot_rl.errors import ConfigError
from robot_rl.spec import Array


class Planner(Protocol):
    """What plans: a loaded bundle whose contract says `chunk` above 1, or something that stands in for it."""

    contract: Contract

    def plan(self, obs: Array) -> Array:
        """The next actions, (H, A), for a raw observation, (S,)."""
        ...

    def warm_up(self) -> None:
        """The same work without effect, shortly before it is needed."""
        ...


class ChunkPlayer:
    """Plays plans as single actions: an `Actor` for the control loop.

    Args:
        policy: Plans H actions at once.
        replan_every: Actions of a plan that are played, 1 to H; None for H.

    Raises:
        ConfigError: If it is outside 1 to H, or the policy has a memory.
    """

    def __init__(self, policy: Planner, replan_every: int | None = None) -> None:
        self.contract = policy.contract
        if self.contract.state_dim:
            raise ConfigError(
                f"--replan-every plays plans, but policy '{self.contract.run}' has a memory and decides at every step. "
                f"Leave it out."
            )
        most = self.contract.chunk
        self.replan_every = most if replan_every is None else replan_every
        if not 1 <= self.replan_every <= most:
            raise ConfigError(
                f"--replan-every is {self.replan_every}, but policy '{self.contract.run}' plans {most} "
                f"{'actions' if most > 1 else 'action'} at once. Give 1 to {most}."
            )
        self._policy = policy
        self._plan = np.zeros((most, self.contract.spec.action_dim), np.float32)
        self._next = self.replan_every

    def act(self, obs: Array) -> Array:
        """The plan's next action, (A,); the policy looks at `obs`, (S,), only where it plans anew."""
        if self._next >= self.replan_every:
            self._plan[:] = self._policy.plan(obs)
            self._next = 0
        self._next += 1
        return self._plan[self._next - 1]

    def drop(self) -> None:
        """Forget the rest of the plan: the arm is no longer where it was made for."""
        self._next = self.replan_every

    def warm_up(self) -> None:
        """Rehearse the policy where the next action needs it."""
        if self._next >= self.replan_every:
            self._policy.warm_up()
