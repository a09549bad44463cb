"""An actor process: steps an environment by the learner's newest policy and delivers every transition.

No torch. The arm or simulator stands still while `ActorLink.hold` gives a reason: the learner paused, or the
policy is older than allowed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploy.bridge.actor import ActorLink
from deploy.bundle.policy import Policy
from deploy.control.rate import Pacer
from robot_rl.collect import Collector, ExploreFn, Finished
from robot_rl.data.transition import Success
from robot_rl.errors import ArmStoppedError, BridgeError
from robot_rl.memory import Remembering
from robot_rl.spec import Array

IDLE_S = 0.01  # between two looks while there is nothing to do


@dataclass
class ActorReport:
    """What an actor did.

    Args:
        interactions: Control steps taken.
        episodes: Episodes ended.
        held_s: Time spent standing still, s.
        undelivered: Transitions that wait in the spool for the learner.
        ending: Why it ended.
    """

    interactions: int = 0
    episodes: int = 0
    held_s: float = 0.0
    undelivered: int = 0
    ending: str = ""


def act(
    link: ActorLink,
    collector: Collector,
    *,
    stop: threading.Event,
    steps: int | None = None,
    rate_hz: float = 0.0,
    waits: Callable[[], str] = lambda: "",
    on_hold: Callable[[str], None] | None = None,
    on_episode: Callable[[Finished], None] | None = None,
) -> ActorReport:
    """Collect until the learner says stop, `stop` is set or `steps` are taken.

    Args:
        link: To the learner; the caller closes it.
        collector: Steps the environment.
        stop: Set to end after the current control step.
        steps: Most control steps; None for no limit.
        rate_hz: Control rate; 0 runs as fast as the simulator goes.
        waits: Between episodes, why the next one cannot begin yet; "" when it can.
        on_hold: Told why the actor stands still, and "" when it goes on.
        on_episode: Told of each episode that ended.

    Raises:
        BridgeError: If a transition could not be stored, or the learner refuses this robot: nothing more is commanded.
    """
    report, policy, explore, held = ActorReport(), None, None, ""
    pacer = Pacer(rate_hz, (), kept_ticks=1) if rate_hz else None
    while not stop.is_set() and (steps is None or report.interactions < steps):
        if link.stopped:
            report.ending = "the learner ended the run"
            break
        if link.refusal:
            raise BridgeError(f"The learner refuses this actor: {link.refusal}")
        newer = link.take_policy()
        if newer is not None:
            policy, explore = newer, exploring(newer)
        reason = link.hold or ("" if policy else "waiting for the learner's first policy")
        reason = reason or (waits() if collector.between_episodes else "")
        if reason != held and on_hold is not None:
            on_hold(reason)
        held = reason
        if policy is None or explore is None or reason:
            time.sleep(IDLE_S)
            report.held_s += IDLE_S
            if pacer is not None:
                pacer.pause()
            continue
        if pacer is not None:
            pacer.wait(link.rehearse)
        try:
            ended = _step(link, collector, explore, policy.contract.weight_version)
        except ArmStoppedError:  # before an episode began: `waits` says why, until somebody arms again
            continue
        report.interactions += 1
        if ended is not None:
            report.episodes += 1
            if on_episode is not None:
                on_episode(ended)
    report.ending = report.ending or ("interrupted" if stop.is_set() else "all steps taken")
    return report


def exploring(policy: Policy) -> ExploreFn:
    """A loaded policy as a collector asks it, remembering if it does."""

    def explore(obs: Array, noise: Array) -> Array:
        return np.array(policy.explore(obs, noise))  # the policy's own buffer changes with the next call

    return _Remembering(explore, policy) if isinstance(policy, Remembering) else explore


class _Remembering:
    """An exploring function and the policy behind it, which is told what happens."""

    def __init__(self, explore: ExploreFn, policy: Remembering) -> None:
        self._explore = explore
        self.begin_episode, self.executed = policy.begin_episode, policy.executed

    def __call__(self, obs: Array, noise: Array) -> Array:
        return self._explore(obs, noise)


def _step(link: ActorLink, collector: Collector, explore: ExploreFn, version: int) -> Finished | None:
    rows, ended = collector.step(explore, version)
    row = rows[0]
    try:
        link.publish(
            row["obs"],
            row["action"],
            float(row["reward"]),
            row["next_obs"],
            terminated=bool(row["terminated"]),
            truncated=bool(row["truncated"]),
            intervention=bool(row["intervention"]),
            success=Success(int(row["success"])),
        )
    except BridgeError as error:
        raise BridgeError(f"The actor stopped: {error}") from error
    return ended
