"""What the operator and the clock have to say, once a tick, to the supervisor."""

from __future__ import annotations

from deploy.control.rate import Pacer
from deploy.operator.station import Station
from deploy.safety.decision import Finding, Reason
from deploy.safety.supervisor import Supervisor

NONE: tuple[Finding, ...] = ()


def alarms(station: Station, supervisor: Supervisor, pacer: Pacer, now_s: float) -> tuple[Finding, ...]:
    """Causes to hold for this tick; stops are latched here, and a word to arm is forgotten where nothing is stopped.

    Args:
        station: The operator's.
        supervisor: Of the arm; its limits say how overruns and silence are taken.
        pacer: Of the loop.
        now_s: Now, on `time.monotonic`'s clock, s.
    """
    limits = supervisor.limits
    if station.stop_cause:
        supervisor.stop(Reason.ESTOP, station.stop_cause)
    if station.ending.is_set():
        supervisor.stop(Reason.OPERATOR, "Ctrl-C")
    if not supervisor.stopped:
        station.wants_arm = False  # said while nothing was stopped: it must not release a stop yet to come
    missed = pacer.skipped
    silent = limits.operator_timeout_s > 0 and station.silence_s(now_s) > limits.operator_timeout_s
    if not silent and not missed:
        return NONE
    found: list[Finding] = []
    if silent:
        silence = station.silence_s(now_s)
        found.append(Finding(Reason.OPERATOR_SILENT, "silence, s", silence, limits.operator_timeout_s))
    if missed and limits.overrun == "stop":
        supervisor.stop(Reason.OVERRUN, f"{missed} missed")
    if missed and limits.overrun == "hold":
        found.append(Finding(Reason.OVERRUN, "deadlines", missed, 0.0))
    return tuple(found)
