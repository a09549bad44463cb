"""Driving an arm by a policy: take control, arm, run the loop, and hold whatever happens.

A run ends by its duration or number of episodes, by the operator (Ctrl-C, SIGTERM, key, socket), or by a
latched stop that nobody releases. In the last two cases, and where a physical arm's time is up, the loop goes on
until the supervisor has brought the command to rest. Whatever happens, the arm is told to hold before `serve` returns
or raises.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from deploy.arms.arm import Arm, Episodic
from deploy.control.home import take_control
from deploy.control.loop import Loop
from deploy.control.plan import Actor, ServePlan, SessionLog, TickFn
from deploy.control.rate import KEPT_TICKS, Pacer
from deploy.control.report import ServeReport
from deploy.operator.station import Station, signals
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ConfigError
from robot_rl.interrupt import interrupt_sets

PHASES = ("read", "policy", "supervise", "command", "record")
PHYSICS = "physics"


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
    loop = Loop(policy, arm, supervisor, pacer, plan, station, log, on_tick, on_episode)
    try:
        loop.get_ready()
        supervisor.arm(arm.read(), time.monotonic())
        with interrupt_sets(station.ending), signals(station), _no_garbage_collection(), loop.watchdog:
            take_control(supervisor, arm)
            ending = loop.run(ticks, plan.episodes)
    finally:
        arm.hold()
    return ServeReport.of(
        policy.contract, arm, supervisor, pacer, ending=ending, returns=loop.returns, successes=loop.successes
    )


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
