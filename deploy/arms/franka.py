"""Franka arms (FR3, Panda) over franky-control 2.0: joint targets for a joint impedance tracker.

The vendor's loop runs at 1 kHz in franky's own thread; a command here only sets the tracker's target.
The tracker has no watchdog: it holds its last target for ever, which is why the control loop's watchdog
calls `hold`. Switched on in `connect`: collision reflexes, and in the tracker torque-rate limits and
repelling joint limits. Nothing recovers from an error by itself: that is `robot-rl arm check --recover`.

https://timschneider42.github.io/franky
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import ArmState
from deploy.arms.drivers import SimOptions
from deploy.arms.joint_arm import (
    Freshness,
    JointArmOptions,
    joint_spec,
    missing_package,
    observe,
    require_joints,
)
from deploy.arms.schema import ArmConfig
from robot_rl.errors import ArmError, ArmFaultError
from robot_rl.spec import Spec

RAISED = ("Exception", "GripperException", "TorqueSignalTimeoutException", "InvalidMotionTypeException")
Seven = tuple[float, float, float, float, float, float, float]


class FrankaOptions(JointArmOptions, frozen=True, kw_only=True):
    """What may stand under `options:`."""

    stiffness: Seven = (50.0, 50.0, 50.0, 50.0, 30.0, 20.0, 10.0)  # N m / rad; damping is critical
    torque_threshold_nm: float = 20.0  # of the collision reflex
    force_threshold_n: float = 30.0
    realtime: Literal["enforce", "ignore"] = "enforce"  # refuse to run without a real-time kernel
    gripper: bool = False  # the Franka Hand, commanded by width
    gripper_step_m: float = 0.002  # smallest change of width that is sent


class FrankaArm:
    """One arm.

    Args:
        config: Its file.
        options: Its driver's part of it.

    Raises:
        ArmError: If the file has another number of joints, or tells half of what a gripper needs.
    """

    Options = FrankaOptions

    def __init__(self, config: ArmConfig, options: FrankaOptions) -> None:
        require_joints(config, 7, "franka")
        if options.gripper != (config.gripper is not None):
            raise ArmError(
                f"{config.name}: options.gripper is {str(options.gripper).lower()}, and its section `gripper` (width "
                f"and speed) is {'missing' if config.gripper is None else 'there'}. Give both, or none."
            )
        self.name = config.name
        self.spec: Spec = joint_spec(config, options, gripper=options.gripper)
        self._config, self._options = config, options
        self._franky: Any = None
        self._errors: tuple[type[BaseException], ...] = ()  # what franky raises, which shares no one base
        self._robot: Any = None
        self._gripper: Any = None
        self._tracker: Any = None
        self._fresh = Freshness()
        self._moving: Any = None  # the hand's last motion
        self._width = self._asked_width = float("nan")

    @classmethod
    def make(cls, config: ArmConfig, sim: SimOptions) -> FrankaArm:
        """The arm of a config; there is nothing to simulate here."""
        del sim
        return cls(config, FrankaOptions.of(config.options))

    def connect(self) -> None:
        """Connect and switch the reflexes on. Moves nothing; control begins with the first command.

        Raises:
            ArmFaultError: If the arm reports errors.
            ArmError: If franky is missing or nobody answers.
        """
        try:
            self._franky = franky = importlib.import_module("franky")
        except ImportError as error:
            raise missing_package("franky-control", "franka") from error
        self._errors = (RuntimeError, *(getattr(franky, name) for name in RAISED))  # a cut line is the former
        options = self._options
        realtime = franky.RealtimeConfig.Enforce if options.realtime == "enforce" else franky.RealtimeConfig.Ignore
        try:
            self._robot = franky.Robot(options.address, realtime_config=realtime)
            self._robot.set_collision_behavior(options.torque_threshold_nm, options.force_threshold_n)
            if options.gripper:
                self._gripper = franky.Gripper(options.address)
                self._width = self._asked_width = float(self._gripper.width)
        except self._errors as error:
            self.close()
            raise self._worded("cannot be reached", error) from error
        if self._robot.has_errors:  # still connected, so that `recover` can do something about it
            raise ArmFaultError(
                f"{self.name} reports errors. See what they are in Desk, then run `robot-rl arm check "
                f"{self.name} --recover` with nobody near the arm."
            )

    def recover(self) -> bool:
        """Clear a reflex or error after somebody has looked; returns whether the arm is ready."""
        try:
            return bool(self._connected().recover_from_errors())
        except self._errors as error:
            raise self._worded("does not recover", error) from error

    def read(self) -> ArmState:
        """The newest state that franky's loop received.

        Raises:
            ArmError: If the connection broke.
        """
        robot = self._connected()
        try:
            state = robot.state
        except self._errors as error:
            raise self._worded("stopped answering", error) from error
        q, dq = np.array(state.q, np.float64), np.array(state.dq, np.float64)
        tool = np.array(state.O_T_EE.translation, np.float64)
        obs = observe(q, dq, tool, self._options)
        if self._gripper is not None:
            obs = np.append(obs, np.float32(self._width))
        return ArmState(obs, q, dq, tool, self._fresh.stamp(state.time.to_msec()), self._width)

    @property
    def clock_ms(self) -> int:
        """The arm's own clock in its newest state, ms."""
        return int(self._connected().state.time.to_msec())

    def command(self, action: NDArray[np.float64]) -> None:
        """Set the tracker's target, (7,), rad; with a gripper its width, m, comes last.

        Raises:
            ArmError: If the vendor's loop ended: a reflex, an error or a broken connection.
        """
        target = np.array(action[:7])
        try:
            if self._tracker is None:
                self._tracker = self._start_tracker()
            elif not self._connected().is_in_control:
                self._robot.poll_motion()  # raises what ended it
                raise ArmError(f"{self.name}: the vendor's control loop ended. Look at the arm, then serve again.")
            self._tracker.set_target(target)
            if self._gripper is not None:
                self._move_gripper(float(action[7]))
        except self._errors as error:
            raise self._worded("stopped the motion", error) from error

    def hold(self) -> None:
        """Make the measured pose the target; where there is no control, there is nothing to hold."""
        tracker, robot = self._tracker, self._robot
        if tracker is None or robot is None:
            return
        with contextlib.suppress(*self._errors):  # a broken connection: the arm has stopped itself
            if robot.is_in_control:
                tracker.set_target(np.array(robot.current_joint_positions))

    def close(self) -> None:
        """Bring the arm to rest, end control, disconnect; a second call changes nothing."""
        tracker, robot = self._tracker, self._robot
        self._tracker = self._robot = self._gripper = None
        if robot is None:
            return
        with contextlib.suppress(*self._errors):  # the connection may be what broke
            if tracker is not None:
                tracker.stop()
        with contextlib.suppress(*self._errors):
            robot.stop()

    def _start_tracker(self) -> Any:
        joints = self._config.limits().joints
        return self._franky.JointImpedanceTracker(
            self._connected(),
            stiffness=np.array(self._options.stiffness),
            lower_joint_limits=joints.low,
            upper_joint_limits=joints.high,
        )

    def _move_gripper(self, width: float) -> None:
        """The hand moves on its own and slowly: only changes are sent, and nothing waits for them.

        A motion that is sent while another one runs would wait for it, and the arm's tick with it: it is sent after.
        """
        if abs(width - self._asked_width) < self._options.gripper_step_m or self._config.gripper is None:
            return
        if self._moving is None or self._moving.wait(0.0):
            self._moving = self._gripper.move_async(width, self._config.gripper.speed_m_s)
            self._asked_width = self._width = width

    def _connected(self) -> Any:
        if self._robot is None:
            raise ArmError(f"Arm '{self.name}' is not connected; call connect() first.")
        return self._robot

    def _worded(self, what: str, error: BaseException) -> ArmError:
        return ArmError(
            f"{self.name} at {self._options.address} {what}: {error}. See that it is switched on, in FCI mode and "
            f"unlocked, and that nobody else controls it."
        )
