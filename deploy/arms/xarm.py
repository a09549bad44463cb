"""UFACTORY xArm over xarm-python-sdk 1.18: joint targets in servo mode (mode 1).

`set_servo_angle_j` keeps only the newest target; the controller interpolates to it. The SDK reports
every call's outcome as a code, 0 for good; anything else ends the session here.

https://github.com/xArm-Developer/xArm-Python-SDK
"""

from __future__ import annotations

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
)
from deploy.arms.schema import ArmConfig
from robot_rl.errors import ArmError
from robot_rl.spec import Spec

SERVO_MODE, READY, PAUSED, STOPPED = 1, 0, 3, 4
MILLIMETRE = 1e-3


class XArmOptions(JointArmOptions, frozen=True, kw_only=True):
    """What may stand under `options:`."""

    collision_sensitivity: int = 3  # 0 (off) to 5


class XArm:
    """One arm.

    Args:
        config: Its file.
        options: Its driver's part of it.
    """

    Options = XArmOptions

    def __init__(self, config: ArmConfig, options: XArmOptions) -> None:
        self.name = config.name
        self.spec: Spec = joint_spec(config, options)
        self._options, self._count = options, len(config.joints)
        self._api: Any = None
        self._in_servo = False
        self._fresh = Freshness()

    @classmethod
    def make(cls, config: ArmConfig, sim: SimOptions) -> XArm:
        """The arm of a config; there is nothing to simulate here."""
        del sim
        return cls(config, XArmOptions.of(config.options))

    def connect(self) -> None:
        """Connect and set the collision sensitivity. Moves nothing; servo mode begins with the first command.

        Raises:
            ArmError: If the SDK is missing, nobody answers, or the arm reports an error.
        """
        try:
            wrapper = importlib.import_module("xarm.wrapper")
        except ImportError as error:
            raise missing_package("xarm-python-sdk", "xarm") from error
        try:
            self._api = wrapper.XArmAPI(self._options.address, is_radian=True)
        except Exception as error:  # the SDK raises bare exceptions
            raise ArmError(f"{self.name} at {self._options.address} cannot be reached: {error}.") from error
        if not self._api.connected or self._api.error_code:
            code = self._api.error_code
            self.close()
            raise ArmError(f"{self.name} at {self._options.address} is not ready (error {code}). Clear it in Studio.")
        self._require(self._api.set_collision_sensitivity(self._options.collision_sensitivity), "collision sensitivity")

    def read(self) -> ArmState:
        """Joint states and the tool's place, asked from the controller: its reports, which `api.position` repeats, come
        five times a second, and nothing would tell that they had stopped.

        Raises:
            ArmError: If the controller refuses, or the connection broke.
        """
        api = self._connected()
        code, states = api.get_joint_states(is_radian=True)
        self._require(code, "joint states")
        q, dq = (np.array(values[: self._count], np.float64) for values in states[:2])
        code, pose = api.get_position(is_radian=True)
        self._require(code, "tool position")
        tool = np.array(pose[:3], np.float64) * MILLIMETRE
        stamp_s = self._fresh.stamp(object())  # asked just now
        return ArmState(observe(q, dq, tool, self._options), q, dq, tool, stamp_s)

    def command(self, action: NDArray[np.float64]) -> None:
        """Set the newest joint target, (J,), rad.

        Raises:
            ArmError: If the controller refuses.
        """
        api = self._connected()
        if not self._in_servo:
            self._require(api.motion_enable(True), "motion_enable")
            self._require(api.set_mode(SERVO_MODE), "set_mode")
            self._require(api.set_state(READY), "set_state")
            self._in_servo = True
        self._require(api.set_servo_angle_j(action.tolist(), is_radian=True), "set_servo_angle_j")

    def hold(self) -> None:
        """Pause; nothing to do before the first command."""
        if self._api is not None and self._in_servo:
            self._api.set_state(PAUSED)
            self._in_servo = False

    def close(self) -> None:
        """Stop and disconnect; a second call changes nothing."""
        api, self._api = self._api, None
        if api is not None:
            if self._in_servo:
                api.set_state(STOPPED)
            self._in_servo = False
            api.disconnect()

    def _require(self, code: int, what: str) -> None:
        if code != 0:
            raise ArmError(
                f"{self.name}: {what} answered code {code}. Look at the arm and at Studio, then serve again."
            )

    def _connected(self) -> Any:
        if self._api is None:
            raise ArmError(f"Arm '{self.name}' is not connected; call connect() first.")
        return self._api
