"""Between policy and driver: lets through what is safe, changes what can be made safe, else holds.

    disarmed --arm()--> armed --stop() or a stopping cause--> stopped --arm()--> armed

`check` is called once every tick. Holding is not latched: the next good tick goes on. A stop is: the
command comes to rest within the acceleration limits and stays there until somebody calls `arm`.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from deploy.arms.arm import ArmState
from deploy.safety.decision import Decision, Finding, Reason, Verdict
from deploy.safety.joint_guard import JointGuard
from deploy.safety.limits import Limits, Vector
from deploy.safety.tool_guard import GRIPPER, ToolGuard
from robot_rl.errors import LimitError
from robot_rl.spec import Array

RAMP_START = 0.1  # share of the allowed speed at the first command
STILL = 0.05  # share of its speed limit below which a joint counts as standing
BAD_NUMBERS = (Reason.BAD_ACTION, Reason.BAD_OBSERVATION)


class Supervisor:
    """Keeps an arm within `limits`.

    Every command that leaves keeps, in mode "joint_position": joint position within the soft limits (from
    within them), command speed and acceleration; in mode "osc_pose": action bounds, tool speed and rate
    of turn, and a goal inside the workspace box (from within it).

    Args:
        limits: What must never be exceeded.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        dt = 1.0 / limits.rate_hz
        self._joint_guard = JointGuard(limits.joints, dt) if limits.control == "joint_position" else None
        self._tool_guard = None
        if self._joint_guard is None and limits.tool is not None:
            self._tool_guard = ToolGuard(limits.tool, limits.joints, dt)
        self._ramp_ticks = round(limits.ramp_s * limits.rate_hz)
        joints = limits.joints
        self._names = joints.names
        self._measured = (joints.low.tolist(), joints.high.tolist(), joints.velocity.tolist())
        self._armed_ticks = 0
        self._bad_in_a_row = 0
        self._ever_armed = False
        self._latched: tuple[Finding, ...] = ()
        self._asked = np.zeros(self.action_dim)
        self.verdicts: Counter[Verdict] = Counter()
        self.reasons: Counter[Reason] = Counter()

    @property
    def action_dim(self) -> int:
        """Length of the actions it takes."""
        return len(self.limits.joints.names) if self.limits.control == "joint_position" else GRIPPER + 1

    @property
    def stopped(self) -> tuple[Finding, ...]:
        """Why the stop is latched; empty while it is not."""
        return self._latched

    @property
    def at_rest(self) -> bool:
        """Whether the last command asked for no motion."""
        guard = self._joint_guard or self._tool_guard
        return guard is None or guard.at_rest

    def arm(self, state: ArmState, now_s: float) -> None:
        """Allow motion, from where the arm is; releases a latched stop.

        Args:
            state: A fresh measurement.
            now_s: Time on the clock of its stamp, s.

        Raises:
            LimitError: If the measurement is old, not finite, outside the limits, or says that the arm moves;
                nothing changes then.
        """
        findings = self._look(state, now_s) or self._moving(state)
        if findings:
            raise LimitError(
                f"The arm cannot be armed: {'; '.join(map(str, findings))}. Bring it within its limits (by "
                f"hand, with the vendor's tools) and see that its measurements arrive, then arm again."
            )
        if self._joint_guard is not None:
            self._joint_guard.start(state.q)
        if self._tool_guard is not None:
            self._tool_guard.start()
        self._armed_ticks = self._bad_in_a_row = 0
        self._ever_armed = True
        self._latched = ()

    def stop(self, reason: Reason = Reason.OPERATOR, where: str = "stop") -> None:
        """Latch the stop; the next `check` begins to bring the arm to rest."""
        if not self._latched:
            self._latched = (Finding(reason, where),)

    def check(self, state: ArmState, action: Array, now_s: float) -> Decision:
        """The safe command for this tick.

        Args:
            state: The newest measurement.
            action: What the policy asks, (A,).
            now_s: Time on the clock of the measurement's stamp, s.

        Raises:
            LimitError: If the supervisor was never armed, or `action` has the wrong length.
        """
        if not self._ever_armed or len(action) != self.action_dim:
            raise LimitError(
                f"The supervisor takes {self.action_dim} numbers once armed; it got {len(action)} and was "
                f"{'' if self._ever_armed else 'never '}armed. Call arm(state, now) first."
            )
        self._asked[:] = action
        if self._latched:
            self.reasons[Reason.LATCHED] += 1
            return self._at_rest(Verdict.STOPPED, (*self._latched, Finding(Reason.LATCHED, "arm again")))
        findings = self._look(state, now_s)
        if not np.isfinite(self._asked).all():
            findings.append(Finding(Reason.BAD_ACTION, f"action {int(np.isfinite(self._asked).argmin())}"))
        if findings:
            return self._refuse(findings)
        self._bad_in_a_row = 0
        changed = self._advance(state)
        self._armed_ticks += 1
        return self._decided(Verdict.LIMITED if changed else Verdict.PASSED, changed)

    def _look(self, state: ArmState, now_s: float) -> list[Finding]:
        """What is wrong with a measurement."""
        age = now_s - state.stamp_s
        if not 0.0 <= age <= self.limits.stale_after_s:
            return [Finding(Reason.STALE, "age, s", age, self.limits.stale_after_s)]
        for where, values in (("obs", state.obs), ("q", state.q), ("dq", state.dq), ("tool", state.tool)):
            if values is not None and not np.isfinite(values).all():
                return [Finding(Reason.BAD_OBSERVATION, f"{where} {int(np.isfinite(values).argmin())}")]
        found: list[Finding] = []
        for name, q, dq, low, high, fastest in zip(
            self._names, state.q.tolist(), state.dq.tolist(), *self._measured, strict=True
        ):
            if not low <= q <= high:
                found.append(Finding(Reason.MEASURED_POSITION, name, q, low if q < low else high))
            if abs(dq) > fastest:
                found.append(Finding(Reason.MEASURED_VELOCITY, name, dq, fastest))
        return found + self._look_at_tool(state.tool)

    def _moving(self, state: ArmState) -> list[Finding]:
        joints = self.limits.joints
        still = STILL * joints.velocity
        return [
            Finding(Reason.MEASURED_VELOCITY, joints.names[i], float(state.dq[i]), float(still[i]))
            for i in np.flatnonzero(np.abs(state.dq) > still)
        ]

    def _look_at_tool(self, position: Vector | None) -> list[Finding]:
        tool = self.limits.tool
        if self._tool_guard is not None:  # clamps tool actions into the box instead
            return [] if position is not None else [Finding(Reason.BAD_OBSERVATION, "tool position is missing")]
        if tool is None or position is None:
            return []
        corners = tool.workspace_low.tolist(), tool.workspace_high.tolist()
        return [
            Finding(Reason.MEASURED_TOOL, axis, at, low if at < low else high)
            for axis, at, low, high in zip("xyz", position.tolist(), *corners, strict=True)
            if not low <= at <= high
        ]

    def _refuse(self, findings: list[Finding]) -> Decision:
        """Hold; stop where holding does not help, or numbers stay unusable."""
        if any(f.reason in BAD_NUMBERS for f in findings):
            self._bad_in_a_row += 1
        outside = any(f.reason in (Reason.MEASURED_POSITION, Reason.MEASURED_TOOL) for f in findings)
        found = tuple(findings)
        if outside or self._bad_in_a_row >= self.limits.stop_after_bad:
            self._latched = found
            return self._at_rest(Verdict.STOPPED, found)
        return self._at_rest(Verdict.HELD, found)

    def _advance(self, state: ArmState) -> tuple[Finding, ...]:
        share = 1.0
        if self._armed_ticks < self._ramp_ticks:
            share = RAMP_START + (1.0 - RAMP_START) * self._armed_ticks / self._ramp_ticks
        if self._joint_guard is not None:
            return self._joint_guard.advance(self._asked, share)
        if self._tool_guard is None or state.tool is None:
            raise LimitError("Tool actions need a measured tool position and tool limits; hold position.")
        return self._tool_guard.advance(self._asked, state.tool, state.q, share)

    def _at_rest(self, verdict: Verdict, findings: tuple[Finding, ...]) -> Decision:
        guard = self._joint_guard or self._tool_guard
        if guard is not None:
            guard.brake()
        return self._decided(verdict, findings)

    def _decided(self, verdict: Verdict, findings: tuple[Finding, ...]) -> Decision:
        self.verdicts[verdict] += 1
        if verdict is not Verdict.STOPPED or Reason.LATCHED not in {f.reason for f in findings}:
            self.reasons.update({f.reason for f in findings})  # a tick counts once for each reason
        if self._joint_guard is not None:
            return Decision(self._joint_guard.position, verdict, findings)
        command = self._asked if self._tool_guard is None else self._tool_guard.action
        return Decision(command, verdict, findings)
