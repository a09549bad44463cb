"""The running loop: read, decide, supervise, command, record; once every period.

A policy with a memory forgets at the start, after arming and between episodes. It is told what the arm was commanded in
place of its action; while the arm is held it goes on acting and remembering, a missed deadline it does not see.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import Arm, ArmState, Episodic
from deploy.bundle.chunk import ChunkPlayer
from deploy.control.alarms import alarms
from deploy.control.interpolate import path_for
from deploy.control.plan import Actor, ServePlan, SessionLog, TickFn
from deploy.control.rate import SPIN_NS, Pacer
from deploy.control.report import Ending
from deploy.control.watchdog import Watchdog
from deploy.operator.station import Station
from deploy.safety.decision import Decision, Finding, Reason, Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import LimitError
from robot_rl.memory import Remembering

LONGEST_BRAKING_S = 2.0
REHEARSAL_NS = SPIN_NS // 2


@dataclass
class Loop:
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
    leaving: tuple[Finding, ...] = ()  # why the arm is held from now on
    refusal: str = ""  # why the arm was not armed again when the operator said so last

    def __post_init__(self) -> None:
        limits = self.supervisor.limits
        self.simulator = self.arm if isinstance(self.arm, Episodic) else None
        self.chunks = self.policy if isinstance(self.policy, ChunkPlayer) else None
        self.remembers = self.policy if isinstance(self.policy, Remembering) else None
        plan = self.plan
        self.path = path_for(plan.interpolation, plan.commands_per_step, limits, self.supervisor.action_dim)
        self.watchdog = Watchdog(limits.policy_timeout_s, self.tick_hangs)

    def get_ready(self) -> None:
        """The policy's first calls, which are slow."""
        self.policy.act(self.arm.read().obs)
        self.begin_anew()
        self.rehearses_policy = _is_quick(self.policy)

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
        self.come_to_rest()
        self.end_log()
        return Ending.DURATION

    def come_to_rest(self) -> None:
        """The time is up: a physical arm brakes within its limits before it is told to hold."""
        self.leaving = (Finding(Reason.ENDING, "duration"),)
        ticks = round(LONGEST_BRAKING_S * self.supervisor.limits.rate_hz)
        while self.simulator is None and not self.supervisor.at_rest and ticks > 0:
            self.tick()
            ticks -= 1

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
        causes = alarms(self.station, self.supervisor, self.pacer, now) + self.leaving
        decision = self.supervisor.check(state, asked, now, causes)
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

        The part that comes first is rehearsed last, while the caches still hold it. A physical arm is not read here:
        where its vendor's loop has ended, that may block.
        """
        if self.seen is not None:
            self.supervisor.rehearse(*self.seen, time.monotonic())
        if self.rehearses_policy:
            self.policy.warm_up()
        if self.simulator is not None:
            self.arm.read()

    def tick_hangs(self, silence_s: float) -> None:
        """In the watchdog's thread: the tick cannot hold the arm, so this does."""
        self.supervisor.stop(Reason.POLICY_LATE, f"a tick took over {silence_s * 1e3:.0f} ms")
        try:
            self.arm.hold()
        finally:
            self.supervisor.held()

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
        self.station.status = f"stopped: {self.supervisor.stopped[0]}{self.refusal}"
        if self.station.wants_arm:
            self.arm_again()
        return None

    def arm_again(self) -> None:
        """Release a latched stop where the arm is fit for it; else stay stopped and say why."""
        self.station.released()  # before the arm is looked at: a stop pressed from here on counts
        try:
            self.supervisor.arm(self.arm.read(), time.monotonic())
        except LimitError as error:
            self.refusal = f". {error}"
            return
        self.refusal = ""
        self.begin_anew()
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


def _only_late(decision: Decision) -> bool:
    """Held for a missed deadline alone. To plan anew then would make a slow policy miss the next one, for ever."""
    return all(finding.reason is Reason.OVERRUN for finding in decision.findings)


def _is_quick(policy: Actor) -> bool:
    """Whether a rehearsal fits before a deadline; a large network's would make every tick begin late."""
    spent: list[int] = []
    for _ in range(3):
        begun = time.monotonic_ns()
        policy.warm_up()
        spent.append(time.monotonic_ns() - begun)
    return min(spent) < REHEARSAL_NS
