"""Universal Robots arms over ur-rtde 1.6: joint targets by servoJ, watched by the controller itself.

If the controller hears less often than `watchdog_hz`, it ends the program and the arm stops, whatever happened
here. That matters: ur-rtde waits for answers with Python's lock held (servoStop took 2.5 s with a controller that
had gone silent), and meanwhile nothing of ours can act. Before the first command it is asked whether the current
pose is within its safety limits.

https://sdurobotics.gitlab.io/ur_rtde
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

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
from robot_rl.errors import ArmError
from robot_rl.spec import Spec

JOINTS = 6


class UrOptions(JointArmOptions, frozen=True, kw_only=True):
    """What may stand under `options:`."""

    lookahead_s: float = 0.1  # smoothing of servoJ, 0.03 to 0.2
    gain: float = 300.0  # of servoJ, 100 to 2000
    watchdog_hz: float = 10.0  # the controller stops the arm when commands come less often
    stop_rad_s2: float = 5.0  # deceleration of `hold`


class UrArm:
    """One arm.

    Args:
        config: Its file.
        options: Its driver's part of it.

    Raises:
        ArmError: If the options are outside what servoJ takes.
    """

    Options = UrOptions

    def __init__(self, config: ArmConfig, options: UrOptions) -> None:
        require_joints(config, JOINTS, "ur")
        for key, low, high in (("lookahead_s", 0.03, 0.2), ("gain", 100.0, 2000.0)):
            if not low <= getattr(options, key) <= high:
                raise ArmError(f"{config.name}: {key} is {getattr(options, key):g}; servoJ takes {low:g} to {high:g}.")
        self.name = config.name
        self.spec: Spec = joint_spec(config, options)
        self._options = options
        self._period_s = 1.0 / (config.command_rate_hz or config.rate_hz)
        self._control: Any = None
        self._receive: Any = None
        self._servoing = self._watched = False
        self._fresh = Freshness()

    @classmethod
    def make(cls, config: ArmConfig, sim: SimOptions) -> UrArm:
        """The arm of a config; there is nothing to simulate here."""
        del sim
        return cls(config, UrOptions.of(config.options))

    def connect(self) -> None:
        """Connect and upload the control program. Moves nothing; the watchdog begins with the first command.

        Raises:
            ArmError: If ur-rtde is missing, nobody answers, or the arm is stopped or outside its safety limits.
        """
        try:
            receive, control = (importlib.import_module(name) for name in ("rtde_receive", "rtde_control"))
        except ImportError as error:
            raise missing_package("ur-rtde", "ur") from error
        address = self._options.address
        try:
            self._receive = receive.RTDEReceiveInterface(address)
            self._control = control.RTDEControlInterface(address)
            self._refuse_stopped()
            if not self._control.isJointsWithinSafetyLimits(self._receive.getActualQ()):
                raise ArmError(f"{self.name} stands outside its safety limits. Move it by hand in freedrive.")
        except RuntimeError as error:  # what ur-rtde raises for everything
            self.close()
            raise ArmError(
                f"{self.name} at {address} cannot be reached: {error}. See that it is powered, brakes released, "
                f"and in remote control."
            ) from error
        except ArmError:
            self.close()
            raise

    def read(self) -> ArmState:
        """The newest state that the receiving thread got.

        Raises:
            ArmError: If the connection broke.
        """
        receive = self._connected(self._receive)
        self._refuse_cut(receive)
        q, dq = np.array(receive.getActualQ()), np.array(receive.getActualQd())
        tool = np.array(receive.getActualTCPPose()[:3])
        stamp_s = self._fresh.stamp(receive.getTimestamp())
        return ArmState(observe(q, dq, tool, self._options), q, dq, tool, stamp_s)

    def command(self, action: NDArray[np.float64]) -> None:
        """Servo towards joint targets, (6,), rad, for one period.

        Raises:
            ArmError: If the arm is stopped, its program has ended or the connection broke.
        """
        control = self._connected(self._control)
        self._refuse_cut(control)
        try:
            sent = self._servo(control, action)
        except RuntimeError as error:  # what ur-rtde raises for everything
            raise self._cut() from error
        if not sent:
            self._refuse_stopped()
            raise ArmError(
                f"{self.name}: the controller takes no more commands; its program has ended (watchdog?). Look at "
                f"the arm and its pendant, then serve again."
            )

    def _servo(self, control: Any, action: NDArray[np.float64]) -> bool:
        """Send one target; whether the control program takes it."""
        options = self._options
        if not self._watched:  # not earlier: until commands come steadily it would end the program
            if not control.setWatchdog(options.watchdog_hz):
                raise ArmError(f"{self.name}: the controller refused a watchdog of {options.watchdog_hz:g} Hz.")
            self._watched = True
        self._servoing = True
        sent = control.servoJ(action.tolist(), 0.0, 0.0, self._period_s, options.lookahead_s, options.gain)
        if sent:
            control.kickWatchdog()
        return bool(sent)

    def wake(self) -> None:
        """Upload the control program again where the watchdog ended it, since nothing was commanded for a while.

        Raises:
            ArmError: If the arm is stopped, refuses the program or the connection broke.
        """
        control = self._connected(self._control)
        self._refuse_cut(control)
        if control.isProgramRunning():
            return
        self._refuse_stopped()
        self._watched = False  # the new program has none yet
        try:
            taken = control.reuploadScript()
        except RuntimeError as error:
            raise self._cut() from error
        if not taken:
            raise ArmError(
                f"{self.name}: the controller does not take its program again. Look at the arm and its pendant."
            )

    def hold(self) -> None:
        """Leave servo mode and decelerate; nothing to do where no command was sent."""
        if self._control is None or not self._servoing:
            return
        self._servoing = False
        with contextlib.suppress(RuntimeError):
            if self._control.isConnected():  # else the controller's watchdog stops it, and ur-rtde would wait for ever
                self._control.servoStop(self._options.stop_rad_s2)

    def close(self) -> None:
        """Stop, end the program, disconnect; a second call changes nothing."""
        self.hold()
        control, receive = self._control, self._receive
        self._control = self._receive = None
        self._watched = False
        with contextlib.suppress(RuntimeError):
            if control is not None and control.isConnected():
                control.stopScript()
        for interface in (control, receive):  # each for itself: one left open goes on trying to reconnect, for ever
            with contextlib.suppress(RuntimeError):
                if interface is not None:
                    interface.disconnect()

    def _refuse_stopped(self) -> None:
        for question, word in (("isEmergencyStopped", "emergency stop"), ("isProtectiveStopped", "protective stop")):
            if getattr(self._receive, question)():
                raise ArmError(f"{self.name} is in {word}. Release it on the pendant, then serve again.")

    def _refuse_cut(self, interface: Any) -> None:
        """ur-rtde takes commands and repeats the last state without a word once the connection is gone."""
        if not interface.isConnected():
            raise self._cut()

    def _cut(self) -> ArmError:
        return ArmError(
            f"{self.name} at {self._options.address} stopped answering; its controller's watchdog stops the arm. "
            f"See that it is powered and the cable in, then serve again."
        )

    def _connected(self, interface: Any) -> Any:
        if interface is None:
            raise ArmError(f"Arm '{self.name}' is not connected; call connect() first.")
        return interface
