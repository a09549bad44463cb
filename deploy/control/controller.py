"""The control loop: read, decide, supervise, command, record; once every period.

A run ends by its duration or number of episodes, by the operator (Ctrl-C, SIGTERM, key, socket), or by a
latched stop that nobody releases. In the last two cases the loop goes on until the supervisor has brought
the command to rest. Whatever happens, the arm is told to hold before this function returns or raises.

A policy with a memory forgets at the start, after arming and between episodes. It is told what the arm was commanded in
place of its action; while the arm is held it goes on acting and remembering, a missed deadline it does not see.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import Arm, ArmState, Episodic
from deploy.bundle.chunk import ChunkPlayer
from deploy.bundle.contract import Contract
from deploy.control.alarms import alarms
from deploy.control.home import take_control
from deploy.control.interpolate import Mode, path_for
from deploy.control.rate import KEPT_TICKS, SPIN_NS, Pacer
from deploy.control.report import Ending, ServeReport
from deploy.control.watchdog import Watchdog
from deploy.operator.station import Station, signals
from deploy.safety.decision import Decision, Reason, Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ConfigError, LimitError
from robot_rl.interrupt import interrupt_sets
from robot_rl.memory import Remembering
from robot_rl.spec import Array

PHASES = ("read", "policy", "supervise", "command", "record")
PHYSICS = "physics"
LONGEST_BRAKING_S = 2.0
REHEARSAL_NS = SPIN_NS // 2

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


def serve(
    policy: Actor,
    arm: Arm,
    supervisor: Supervisor,
    plan: ServePlan,
    *,
    stop: threading.Event | None = None,
    station: Station | None = None,
    log: SessionLog | None = None,
    on_tick: TickFn | None = None,
    on_episode: Callable[[int], None] | None = None,
) -> ServeReport:
    """Drive a connected arm by a policy, behind a supervisor.

    Args:
        policy: Whose contract fits the arm (`deploy.bundle.contract.require_fit`).
        arm: Connected. It holds afterwards; closing it is the caller's.
        supervisor: For this arm; gets armed.
        plan: When to end.
        stop: Set by another thread, or by Ctrl-C, to end cleanly.
        station: The operator's; None for one that only hears signals.
        log: Keeps the session.
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
    simulated = isinstance(arm, Episodic)
    phases = (*PHASES, PHYSICS) if simulated else PHASES
    pacer = Pacer(rate_hz, phases, beside=int(simulated), paced=plan.paced, kept_ticks=ticks or KEPT_TICKS)
    station = station or Station()
    if stop is not None:
        station.ending = stop
    loop = _Loop(policy, arm, supervisor, pacer, plan, station, log, on_tick, on_episode)
    try:
        policy.act(arm.read().obs)  # the first call is slow
        loop.begin_anew()
        loop.rehearses_policy = _is_quick(policy)
        supervisor.arm(arm.read(), time.monotonic())
        with interrupt_sets(station.ending), signals(station), _no_garbage_collection(), loop.watchdog:
            take_control(supervisor, arm)
            ending = loop.run(ticks, plan.episodes)
    finally:
        arm.hold()
    return ServeReport.of(
        policy.contract, arm, supervisor, pacer, ending=ending, returns=loop.returns, successes=loop.successes
    )


@dataclass
class _Loop:
    """The running loop and what it has seen."""

    policy: Actor
    arm: Arm
    supervisor: Supervisor
    pacer: Pacer
    plan: ServePlan
    station: Station
    log: SessionLog | None
    on_tick: TickFn | None
    on_episode: Callable[[int], None] | None
    returns: list[float] = field(default_factory=list[float])
    successes: list[bool | None] = field(default_factory=list[bool | None])
    seen: tuple[ArmState, NDArray[Any]] | None = None
    rehearses_policy: bool = True

    def __post_init__(self) -> None:
        limits = self.supervisor.limits
        self.simulator = self.arm if isinstance(self.arm, Episodic) else None
        self.chunks = self.policy if isinstance(self.policy, ChunkPlayer) else None
        self.remembers = self.policy if isinstance(self.policy, Remembering) else None
        plan = self.plan
        self.path = path_for(plan.interpolation, plan.commands_per_step, limits, self.supervisor.action_dim)
        self.watchdog = Watchdog(limits.policy_timeout_s, self.tick_hangs)

    def run(self, ticks: int | None, episodes: int | None) -> Ending:
        """Tick until something ends it; None for no limit."""
        longest = braking = round(LONGEST_BRAKING_S * self.supervisor.limits.rate_hz)
        if self.log is not None:
            self.log.begin(0, 0, self.seed)
        while ticks is None or self.pacer.ticks + self.pacer.missed < ticks:
            self.tick()
            if self.supervisor.stopped:
                braking -= 1
                ending = self.after_stop(given_up=braking <= 0)
                if ending is not None:
                    self.end_log()
                    return ending
            else:
                braking = longest
            if self.simulator is not None and self.simulator.over:
                self.end_episode(self.simulator)
                if len(self.returns) == episodes:
                    return Ending.EPISODES
                self.next_episode(self.simulator)
        self.end_log()
        return Ending.DURATION

    def tick(self) -> None:
        """One control period."""
        pacer = self.pacer
        pacer.wait(self.rehearse)
        self.watchdog.kick()
        tick = pacer.ticks - 1
        state = self.arm.read()
        pacer.mark()
        acts = self.path is None or self.path.due
        asked = self.path.next() if self.path is not None and not acts else self.asked(state)
        self.seen = state, asked
        pacer.mark()
        now = time.monotonic()
        decision = self.supervisor.check(state, asked, now, alarms(self.station, self.supervisor, self.pacer, now))
        pacer.mark()
        self.arm.command(decision.command)
        pacer.mark()
        if self.chunks is not None and decision.verdict is Verdict.HELD and not _only_late(decision):
            self.chunks.drop()
        if self.remembers is not None and (self.path is not None or decision.verdict is not Verdict.PASSED):
            # Of several commands for an action the last one stays.
            self.remembers.executed(decision.command.astype(np.float32))
        if self.on_tick is not None:
            self.on_tick(state, asked, decision)
        if self.log is not None:
            self.log.tick(tick, state.obs if acts else None, asked, decision, pacer.times_ns)
        pacer.mark()
        if self.simulator is not None:
            self.watchdog.sleep()
            self.simulator.advance()
            if self.log is not None:
                self.log.reward(tick, self.simulator.reward)
            pacer.mark()
        if self.log is not None:
            self.log.flush()

    def asked(self, state: ArmState) -> NDArray[Any]:
        """The policy's action, or the first command on the way to it."""
        action = self.policy.act(state.obs)
        if self.path is None:
            return action
        self.path.aim(action)
        return self.path.next()

    def rehearse(self) -> None:
        """The parts of a tick that have no effect, shortly before it: what they touch is in the caches then.

        A physical arm is not read here: where its vendor's loop has ended, that may block.
        """
        if self.simulator is not None:
            self.arm.read()
        if self.seen is not None:
            self.supervisor.rehearse(*self.seen, time.monotonic())
        if self.rehearses_policy:
            self.policy.warm_up()

    def tick_hangs(self, silence_s: float) -> None:
        """In the watchdog's thread: the tick cannot hold the arm, so this does."""
        self.supervisor.stop(Reason.POLICY_LATE, f"a tick took over {silence_s * 1e3:.0f} ms")
        self.arm.hold()

    @property
    def seed(self) -> int | None:
        """Of the running episode; None on an arm that has none."""
        return None if self.simulator is None else self.simulator.seed

    def after_stop(self, *, given_up: bool) -> Ending | None:
        """End once at rest, or arm again when the operator says so; None to go on."""
        if not (self.supervisor.at_rest or given_up):
            return None
        ending = self.station.ending.is_set()
        if ending or not self.plan.wait_for_arm:
            return Ending.OPERATOR if ending else Ending.STOPPED
        self.station.status = f"stopped: {self.supervisor.stopped[0]}"
        if self.station.wants_arm:
            self.arm_again()
        return None

    def arm_again(self) -> None:
        """Release a latched stop where the arm is fit for it; else stay stopped and say why."""
        self.station.wants_arm = False
        try:
            self.supervisor.arm(self.arm.read(), time.monotonic())
        except LimitError as error:
            self.station.status = str(error)
            return
        self.begin_anew()
        self.station.released()
        self.station.status = "running"

    def begin_anew(self) -> None:
        """The next action starts anew: no plan, no way to it, no memory of what was before."""
        if self.remembers is not None:
            self.remembers.begin_episode()
        if self.chunks is not None:
            self.chunks.drop()
        if self.path is not None:
            self.path.reset()

    def end_episode(self, simulator: Episodic) -> None:
        """Note how it went."""
        self.returns.append(simulator.episode_return)
        self.successes.append(simulator.success)
        self.end_log()
        if self.on_episode is not None:
            self.on_episode(len(self.returns))

    def end_log(self) -> None:
        """Tell the log what follows the last tick."""
        if self.log is not None:
            over = self.simulator is not None and self.simulator.over
            terminated = over and self.simulator is not None and self.simulator.terminated
            success = None if self.simulator is None else self.simulator.success
            self.log.end(self.pacer.ticks - 1, self.arm.read().obs, terminated=terminated, success=success)

    def next_episode(self, simulator: Episodic) -> None:
        """A reset takes many periods: it happens off the clock, on the same grid of deadlines."""
        self.watchdog.sleep()
        simulator.restart()
        gc.collect()  # simulators leave cycles behind when they reload a model
        self.begin_anew()
        if not self.supervisor.stopped:
            self.supervisor.arm(self.arm.read(), time.monotonic())
        if self.log is not None:
            self.log.begin(len(self.returns), self.pacer.ticks, self.seed)
        self.pacer.pause()


def _is_quick(policy: Actor) -> bool:
    """Whether a rehearsal fits before a deadline; a large network's would make every tick begin late."""
    spent: list[int] = []
    for _ in range(3):
        begun = time.monotonic_ns()
        policy.warm_up()
        spent.append(time.monotonic_ns() - begun)
    return min(spent) < REHEARSAL_NS


def _only_late(decision: Decision) -> bool:
    """Held for a missed deadline alone. To plan anew then would make a slow policy miss the next one, for ever."""
    return all(finding.reason is Reason.OVERRUN for finding in decision.findings)


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
