"""The control loop: read, decide, supervise, command; once every period.

A run ends by its duration or number of episodes, by the operator (Ctrl-C), or by a latched stop. In the
last two cases the loop goes on until the supervisor has brought the command to rest. Whatever happens,
the arm is told to hold before this function returns or raises.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deploy.arms.arm import Arm, ArmState, Episodic
from deploy.policy import Policy
from deploy.rate import KEPT_TICKS, Pacer
from deploy.report import Ending, ServeReport
from deploy.safety.decision import Decision, Reason
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ConfigError
from robot_rl.interrupt import interrupt_sets
from robot_rl.spec import Array

PHASES = ("read", "policy", "supervise", "command")
LONGEST_BRAKING_S = 2.0

TickFn = Callable[[ArmState, Array, Decision], None]


@dataclass(frozen=True, kw_only=True)
class ServePlan:
    """When to end.

    Args:
        duration_s: Seconds of control time; None for no limit.
        episodes: Episodes of a simulated arm; None for no limit.
        paced: False to run as fast as the simulator goes.
    """

    duration_s: float | None = None
    episodes: int | None = None
    paced: bool = True

    def __post_init__(self) -> None:
        for key in ("duration_s", "episodes"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigError(f"{key} is {value:g}; it must be above 0.")


def serve(
    policy: Policy,
    arm: Arm,
    supervisor: Supervisor,
    plan: ServePlan,
    *,
    stop: threading.Event | None = None,
    on_tick: TickFn | None = None,
    on_episode: Callable[[int], None] | None = None,
) -> ServeReport:
    """Drive a connected arm by a policy, behind a supervisor.

    Args:
        policy: Whose contract fits the arm (`deploy.contract.require_fit`).
        arm: Connected. It holds afterwards; closing it is the caller's.
        supervisor: For this arm; gets armed.
        plan: When to end.
        stop: Set by another thread, or by Ctrl-C, to end cleanly.
        on_tick: Sees state, asked action and decision after each command; must not block.
        on_episode: Told the number of finished episodes, between ticks.

    Raises:
        ConfigError: If `plan` counts episodes but the arm has none.
        LimitError: If the arm cannot be armed.
    """
    if plan.episodes is not None and not isinstance(arm, Episodic):
        raise ConfigError(f"Arm '{arm.name}' has no episodes. Give --duration instead of --episodes.")
    rate_hz = supervisor.limits.rate_hz
    ticks = None if plan.duration_s is None else max(1, round(plan.duration_s * rate_hz))
    pacer = Pacer(rate_hz, PHASES, paced=plan.paced, kept_ticks=ticks or KEPT_TICKS)
    loop = _Loop(policy, arm, supervisor, pacer, stop or threading.Event(), on_tick, on_episode)
    try:
        policy.act(arm.read().obs)  # the first call is slow
        supervisor.arm(arm.read(), time.monotonic())
        with interrupt_sets(loop.stop), _no_garbage_collection():
            ending = loop.run(ticks, plan.episodes)
    finally:
        arm.hold()
    return ServeReport.of(
        policy.contract, arm, supervisor, pacer, ending=ending, returns=loop.returns, successes=loop.successes
    )


@dataclass
class _Loop:
    """The running loop and what it has seen."""

    policy: Policy
    arm: Arm
    supervisor: Supervisor
    pacer: Pacer
    stop: threading.Event
    on_tick: TickFn | None
    on_episode: Callable[[int], None] | None
    returns: list[float] = field(default_factory=list[float])
    successes: list[bool | None] = field(default_factory=list[bool | None])

    def run(self, ticks: int | None, episodes: int | None) -> Ending:
        """Tick until something ends it; None for no limit."""
        braking = round(LONGEST_BRAKING_S * self.supervisor.limits.rate_hz)
        while ticks is None or self.pacer.ticks < ticks:
            if self.stop.is_set():
                self.supervisor.stop(Reason.OPERATOR, "Ctrl-C")
            self.tick()
            if self.supervisor.stopped:
                braking -= 1
                if self.supervisor.at_rest or braking <= 0:
                    return Ending.OPERATOR if self.stop.is_set() else Ending.STOPPED
            if isinstance(self.arm, Episodic) and self.arm.over:
                self.end_episode(self.arm)
                if len(self.returns) == episodes:
                    return Ending.EPISODES
                self.next_episode(self.arm)
        return Ending.DURATION

    def tick(self) -> None:
        """One control period."""
        pacer = self.pacer
        pacer.wait()
        state = self.arm.read()
        pacer.mark()
        action = self.policy.act(state.obs)
        pacer.mark()
        decision = self.supervisor.check(state, action, time.monotonic())
        pacer.mark()
        self.arm.command(decision.command)
        pacer.mark()
        if self.on_tick is not None:
            self.on_tick(state, action, decision)

    def end_episode(self, simulator: Episodic) -> None:
        """Note how it went."""
        self.returns.append(simulator.episode_return)
        self.successes.append(simulator.success)
        if self.on_episode is not None:
            self.on_episode(len(self.returns))

    def next_episode(self, simulator: Episodic) -> None:
        """A reset takes many periods: it happens off the clock, on the same grid of deadlines."""
        simulator.restart()
        gc.collect()  # simulators leave cycles behind when they reload a model
        if not self.supervisor.stopped:
            self.supervisor.arm(self.arm.read(), time.monotonic())
        self.pacer.pause()


@contextmanager
def _no_garbage_collection() -> Generator[None]:
    """The collector stays off during the loop, which makes no reference cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
