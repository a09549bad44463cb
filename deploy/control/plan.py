"""What a run of the control loop is made of: who decides, what keeps it, when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from deploy.arms.arm import ArmState
from deploy.bundle.contract import Contract
from deploy.control.interpolate import Mode
from deploy.safety.decision import Decision
from robot_rl.errors import ConfigError
from robot_rl.spec import Array

TickFn = Callable[[ArmState, NDArray[Any], Decision], None]


class Actor(Protocol):
    """What decides: a loaded bundle (`deploy.bundle.policy.Policy`), the player of its plans, or a stand-in."""

    contract: Contract

    def act(self, obs: Array) -> Array:
        """Action, (A,), for a raw observation, (S,)."""
        ...

    def warm_up(self) -> None:
        """The same work without effect, shortly before it is needed."""
        ...


class SessionLog(Protocol):
    """What keeps a session (`deploy.recorder.Recorder`). Its methods are called in the tick: they must not wait."""

    def begin(self, episode: int, tick: int, seed: int | None) -> None:
        """An episode starts with this tick; `seed` makes the simulator begin it the same way again."""
        ...

    def tick(
        self,
        tick: int,
        obs: Array | None,
        asked: NDArray[Any],
        decision: Decision,
        times_ns: NDArray[Any],
    ) -> None:
        """One tick: what the policy saw (None where it did not act), what it asked, what was decided, and when."""
        ...

    def reward(self, tick: int, reward: float) -> None:
        """What the tick brought."""
        ...

    def flush(self) -> None:
        """The tick is over: a good moment to write."""
        ...

    def end(self, tick: int, obs: Array, *, terminated: bool, success: bool | None) -> None:
        """The episode is over with this tick; `obs` is what follows it."""
        ...


@dataclass(frozen=True, kw_only=True)
class ServePlan:
    """When to end, and how actions become commands.

    Args:
        duration_s: Seconds of control time; None for no limit.
        episodes: Episodes of a simulated arm; None for no limit.
        paced: False to run as fast as the simulator goes.
        commands_per_step: Commands for each policy action.
        interpolation: How commands lead from one action to the next.
        wait_for_arm: After a stop, hold until the operator arms again instead of ending.
    """

    duration_s: float | None = None
    episodes: int | None = None
    paced: bool = True
    commands_per_step: int = 1
    interpolation: Mode = "linear"
    wait_for_arm: bool = False

    def __post_init__(self) -> None:
        for key in ("duration_s", "episodes"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigError(f"{key} is {value:g}; it must be above 0.")
