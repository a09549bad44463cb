"""Between policy and driver: lets through what is safe, changes what can be made safe, else holds.

    disarmed --arm()--> armed --stop() or a stopping cause--> stopped --arm()--> armed

`check` is called once every tick. Holding is not latched: the next good tick goes on. A stop is: the
command comes to rest within the acceleration limits and stays there until somebody calls `arm`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import ArmState
from deploy.safety.box_guard import BoxGuard
from deploy.safety.decision import Decision, Finding, Reason, Verdict
from deploy.safety.gripper_guard import GripperGuard
from deploy.safety.joint_guard import JointGuard
from deploy.safety.limits import Limits
from deploy.safety.tool_guard import GRIPPER, ToolGuard
from robot_rl.errors import LimitError

RAMP_START = 0.1  # share of the allowed speed at the first command
STILL = 0.05  # share of its speed limit below which a joint counts as standing
SAME_TOOL = 0.03  # m between the measured tool and the one that the config's kinematics give
BAD_NUMBERS = (Reason.BAD_ACTION, Reason.BAD_OBSERVATION)


class Supervisor:
    """Keeps an arm within `limits`.

    Every command that leaves keeps, in mode "joint_position": joint position within the soft limits (from
    within them), command speed and acceleration, jerk where the others leave the choice, the gripper's
    range and speed, and, where the limits tell the kinematics, the tool inside its box; in mode "osc_pose":
    action bounds, tool speed and rate of turn, and a goal inside the workspace box (from within it).

    Args:
        limits: What must never be exceeded.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        dt = 1.0 / limits.rate_hz
        joints, tool = limits.joints, limits.tool
        self._names = joints.names
        self._joint_guard: JointGuard | None = None
        self._tool_guard: ToolGuard | None = None
        self._gripper: GripperGuard | None = None
        if limits.control == "joint_position":
            box = None
            if limits.kinematics is not None and tool is not None:
                box = BoxGuard(limits.kinematics, tool, joints, dt)
            self._joint_guard = JointGuard(joints, dt, box)
            self._gripper = None if limits.gripper is None else GripperGuard(limits.gripper, dt)
        elif tool is not None:
            self._tool_guard = ToolGuard(tool, joints, dt)
        self._ramp_ticks = round(limits.ramp_s * limits.rate_hz)
        self._measured = list(zip(joints.low.tolist(), joints.high.tolist(), joints.velocity.tolist(), strict=True))
        self._corners = None if tool is None else (tool.workspace_low.tolist(), tool.workspace_high.tolist())
        self.action_dim = len(self._names) + (self._gripper is not None)
        if self._joint_guard is None:
            self.action_dim = GRIPPER + 1
        self._command = np.zeros(self.action_dim)
        self._armed_ticks = 0
        self._bad_in_a_row = 0
        self._ever_armed = False
        self._was_held = False
        self._latched: tuple[Finding, ...] = ()
        self._double: Supervisor | None = None
        self.verdicts: Counter[Verdict] = Counter()
        self.reasons: Counter[Reason] = Counter()

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
            LimitError: If the measurement is old, not finite, outside the limits, says that the arm moves, or
                contradicts the configured kinematics; nothing changes then.
        """
        findings = self.look(state, now_s) or self._moving(state)
        if self._gripper is not None and not math.isfinite(state.gripper):
            findings.append(Finding(Reason.BAD_OBSERVATION, "gripper width"))
        if findings:
            raise LimitError(
                f"The arm cannot be armed: {'; '.join(map(str, findings))}. Bring it within its limits (by "
                f"hand, with the vendor's tools) and see that its measurements arrive, then arm again."
            )
        self._require_same_tool(state)
        self._begin(state)
        if self._double is None:
            self._double = Supervisor(self.limits)

    def rehearse(self, state: ArmState, asked: NDArray[Any], now_s: float) -> None:
        """`check`, by a double that begins at `state`: nothing changes, what it touches is in the caches."""
        if self._double is not None and not self.look(state, now_s):
            self._double._begin(state)
            self._double.check(state, asked, now_s)

    @property
    def standing(self) -> NDArray[np.float64] | None:
        """The command that asks for no motion, (A,); None before arming."""
        if not self._ever_armed:
            return None
        return self._hand_out() if self._joint_guard is not None else np.zeros(self.action_dim)

    def stop(self, reason: Reason = Reason.OPERATOR, where: str = "stop") -> None:
        """Latch the stop; the next `check` begins to bring the arm to rest. Callable from any thread."""
        if not self._latched:
            self._latched = (Finding(reason, where),)

    def held(self) -> None:
        """The arm stands since somebody else told it to hold, after a `stop`: the next `check` begins where it is.

        To bring the last command to rest instead would set off at the speed of before. Callable from any thread.
        """
        self._was_held = True

    def check(self, state: ArmState, action: NDArray[Any], now_s: float, alarms: tuple[Finding, ...] = ()) -> Decision:
        """The safe command for this tick.

        Args:
            state: The newest measurement.
            action: What the policy asks, (A,).
            now_s: Time on the clock of the measurement's stamp, s.
            alarms: What the watchdogs found; the arm holds while there are any.

        Raises:
            LimitError: If the supervisor was never armed, or `action` has the wrong length.
        """
        if not self._ever_armed or len(action) != self.action_dim:
            raise LimitError(
                f"The supervisor takes {self.action_dim} numbers once armed; it got {len(action)} and was "
                f"{'' if self._ever_armed else 'never '}armed. Call arm(state, now) first."
            )
        if self._latched:
            self.reasons[Reason.LATCHED] += 1
            if self._was_held:
                self._stand(state)
            return self._at_rest(Verdict.STOPPED, (*self._latched, Finding(Reason.LATCHED, "arm again")))
        asked: list[float] = action.tolist()
        findings = [*alarms, *self.look(state, now_s)]
        if not _finite(asked):
            findings.append(Finding(Reason.BAD_ACTION, f"action {_first_bad(asked)}"))
        if findings:
            return self._refuse(findings)
        self._bad_in_a_row = 0
        changed = self._advance(state, asked)
        self._armed_ticks += 1
        return self._decided(Verdict.LIMITED if changed else Verdict.PASSED, tuple(changed))

    def look(self, state: ArmState, now_s: float) -> list[Finding]:
        """What is wrong with a measurement; changes nothing."""
        age = now_s - state.stamp_s
        if not 0.0 <= age <= self.limits.stale_after_s:
            return [Finding(Reason.STALE, "age, s", age, self.limits.stale_after_s)]
        q, dq = state.q.tolist(), state.dq.tolist()
        tool = None if state.tool is None else state.tool.tolist()
        if not _finite(state.obs.tolist()) or (tool is not None and not _finite(tool)):
            return self._not_finite(state)
        for at, speed, (low, high, fastest) in zip(q, dq, self._measured, strict=True):
            if not (low <= at <= high and -fastest <= speed <= fastest):  # not so for NaN either
                return self._not_finite(state) or self._outside(q, dq) + self._look_at_tool(tool)
        return self._look_at_tool(tool)

    def _not_finite(self, state: ArmState) -> list[Finding]:
        for where, values in (("obs", state.obs), ("q", state.q), ("dq", state.dq), ("tool", state.tool)):
            if values is not None and not _finite(numbers := values.tolist()):
                return [Finding(Reason.BAD_OBSERVATION, f"{where} {_first_bad(numbers)}")]
        return []

    def _outside(self, q: list[float], dq: list[float]) -> list[Finding]:
        found: list[Finding] = []
        for name, at, speed, (low, high, fastest) in zip(self._names, q, dq, self._measured, strict=True):
            if not low <= at <= high:
                found.append(Finding(Reason.MEASURED_POSITION, name, at, low if at < low else high))
            if abs(speed) > fastest:
                found.append(Finding(Reason.MEASURED_VELOCITY, name, speed, fastest))
        return found

    def is_still(self, state: ArmState) -> bool:
        """Whether a measurement says that no joint moves, so that `arm` would not refuse it for that."""
        return not self._moving(state)

    def _begin(self, state: ArmState) -> None:
        if self._joint_guard is not None:
            self._joint_guard.start(state.q)
        if self._gripper is not None:
            self._gripper.start(state.gripper)
        if self._tool_guard is not None:
            self._tool_guard.start()
        self._armed_ticks = self._bad_in_a_row = 0
        self._ever_armed = True
        self._was_held = False
        self._latched = ()

    def _stand(self, state: ArmState) -> None:
        """No motion from where the arm is, or from the last command if nobody can tell; a gripper keeps its width."""
        self._was_held = False
        guard = self._joint_guard
        if guard is not None:
            guard.start(state.q if _finite(state.q.tolist()) else np.array(guard.position))

    def _moving(self, state: ArmState) -> list[Finding]:
        joints = self.limits.joints
        still = STILL * joints.velocity
        return [
            Finding(Reason.MEASURED_VELOCITY, joints.names[i], float(state.dq[i]), float(still[i]))
            for i in np.flatnonzero(np.abs(state.dq) > still)
        ]

    def _look_at_tool(self, position: list[float] | None) -> list[Finding]:
        if self._tool_guard is not None:  # clamps tool actions into the box instead
            return [] if position is not None else [Finding(Reason.BAD_OBSERVATION, "tool position is missing")]
        if self._corners is None or position is None:
            return []
        return [
            Finding(Reason.MEASURED_TOOL, axis, at, low if at < low else high)
            for axis, at, low, high in zip("xyz", position, *self._corners, strict=True)
            if not low <= at <= high
        ]

    def _require_same_tool(self, state: ArmState) -> None:
        """The box is only as good as the kinematics in the config."""
        kinematics = self.limits.kinematics
        if kinematics is None or state.tool is None:
            return
        model, seen = kinematics.tool_at(state.q.tolist()), state.tool.tolist()
        if math.dist(model, seen) > SAME_TOOL:
            model_text, seen_text = (", ".join(f"{v:.3f}" for v in point) for point in (model, seen))
            raise LimitError(
                f"The config's kinematics place the tool at ({model_text}) m, the arm measures ({seen_text}) m. "
                f"Correct dh and tool.offset_m in its file, or the tool set in the vendor's program, then arm again."
            )

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

    def _advance(self, state: ArmState, asked: list[float]) -> list[Finding] | tuple[Finding, ...]:
        share = 1.0
        if self._armed_ticks < self._ramp_ticks:
            share = RAMP_START + (1.0 - RAMP_START) * self._armed_ticks / self._ramp_ticks
        if self._joint_guard is not None:
            found = self._joint_guard.advance(asked, share)
            return found if self._gripper is None else found + self._gripper.advance(asked[-1])
        if self._tool_guard is None or state.tool is None:
            raise LimitError("Tool actions need a measured tool position and tool limits; hold position.")
        return self._tool_guard.advance(np.array(asked), state.tool, state.q, share)

    def _at_rest(self, verdict: Verdict, findings: tuple[Finding, ...]) -> Decision:
        guard = self._joint_guard or self._tool_guard
        if guard is not None:
            guard.brake()
        return self._decided(verdict, findings)

    def _decided(self, verdict: Verdict, findings: tuple[Finding, ...]) -> Decision:
        self.verdicts[verdict] += 1
        if findings and findings[-1].reason is not Reason.LATCHED:
            for reason in {f.reason for f in findings}:  # a tick counts once for each reason
                self.reasons[reason] += 1
        return Decision(self._hand_out(), verdict, findings)

    def _hand_out(self) -> NDArray[np.float64]:
        if self._tool_guard is not None:
            return self._tool_guard.action
        guard, command = self._joint_guard, self._command
        if guard is not None:
            command[:] = guard.position if self._gripper is None else [*guard.position, self._gripper.width]
        return command


def _finite(values: list[float]) -> bool:
    """A sum is finite exactly where all are, unless it overflows: then each is asked."""
    return math.isfinite(sum(values)) or all(map(math.isfinite, values))


def _first_bad(values: list[float]) -> int:
    return next(i for i, value in enumerate(values) if not math.isfinite(value))
