"""Drivers against stand-ins for the vendors' packages: what is asked of them, and in which order."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.commands import arm as arm_command
from hardware_configs import config_path
from robot_rl.errors import ArmError, ArmFaultError, ConfigError


class FrankyError(Exception):
    pass


@pytest.fixture
def franky(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    module = MagicMock()
    for name in ("Exception", "GripperException", "TorqueSignalTimeoutException", "InvalidMotionTypeException"):
        setattr(module, name, FrankyError)
    config = load_arm("franka_fr3")
    robot = module.Robot.return_value
    robot.has_errors = False
    robot.is_in_control = True
    robot.state.q = np.array(config.home)
    robot.state.dq = np.zeros(7)
    robot.state.O_T_EE.translation = np.array([0.3, 0.0, 0.5])
    robot.state.time.to_msec.return_value = 1
    robot.current_joint_positions = np.full(7, 0.5)
    monkeypatch.setitem(sys.modules, "franky", module)
    return module


def test_franka_connects_without_control_and_takes_it_with_the_first_command(franky: MagicMock) -> None:
    arm: Any = make_arm(load_arm("franka_fr3"))
    arm.connect()
    robot = franky.Robot.return_value
    robot.set_collision_behavior.assert_called_once_with(20, 30)
    assert franky.Robot.call_args.kwargs["realtime_config"] is franky.RealtimeConfig.Enforce
    first, second = arm.read(), arm.read()
    assert second.stamp_s == first.stamp_s  # the arm's clock stands still: the measurement gets old
    robot.state.time.to_msec.return_value = 2
    assert arm.read().stamp_s > first.stamp_s
    assert len(first.obs) == arm.spec.obs_dim == 17
    franky.JointImpedanceTracker.assert_not_called()
    arm.command(first.q)
    tracker = franky.JointImpedanceTracker.return_value
    np.testing.assert_array_equal(tracker.set_target.call_args.args[0], first.q)
    arm.hold()
    np.testing.assert_array_equal(tracker.set_target.call_args.args[0], np.full(7, 0.5))
    arm.close()
    arm.close()
    tracker.stop.assert_called_once()
    robot.stop.assert_called_once()
    with pytest.raises(ArmError, match="not connected"):
        arm.read()


@pytest.mark.parametrize("error", [FrankyError("reflex"), RuntimeError("Net Exception")])
def test_what_ends_franka_s_motion_is_worded_and_closing_still_works(franky: MagicMock, error: Exception) -> None:
    arm: Any = make_arm(load_arm("franka_fr3"))
    arm.connect()
    arm.command(np.zeros(7))
    franky.Robot.return_value.is_in_control = False
    franky.Robot.return_value.poll_motion.side_effect = error
    franky.JointImpedanceTracker.return_value.stop.side_effect = error
    with pytest.raises(ArmError, match=f"stopped the motion: {error}"):
        arm.command(np.zeros(7))
    arm.close()
    franky.Robot.return_value.stop.assert_called_once()


def test_a_hand_that_fails_is_worded_as_well(franky: MagicMock, tmp_path: Path) -> None:
    text = config_path("franka_fr3").read_text()
    text = text.replace("  realtime: enforce", "  realtime: enforce\n  gripper: true")
    text += "gripper: {width_m: [0.0, 0.08], speed_m_s: 0.1}\n"
    (tmp_path / "hand.yaml").write_text(text)
    franky.Gripper.return_value.width = 0.04
    arm: Any = make_arm(load_arm(str(tmp_path / "hand.yaml")))
    arm.connect()
    arm.command(np.append(arm.read().q, 0.06))
    hand = franky.Gripper.return_value
    hand.move_async.assert_called_once_with(0.06, 0.1)
    hand.move_async.return_value.wait.return_value = False  # still on its way: a second motion would wait for it
    arm.command(np.append(arm.read().q, 0.05))
    hand.move_async.assert_called_once()
    hand.move_async.return_value.wait.return_value = True
    arm.command(np.append(arm.read().q, 0.05))
    assert hand.move_async.call_args.args == (0.05, 0.1)
    franky.Gripper.return_value.move_async.side_effect = FrankyError("hand is stuck")
    with pytest.raises(ArmError, match="stopped the motion: hand is stuck"):
        arm.command(np.append(arm.read().q, 0.02))
    arm.close()


@pytest.mark.parametrize("half", ["option", "section"])
def test_half_a_gripper_is_refused(half: str, tmp_path: Path) -> None:
    text = config_path("franka_fr3").read_text()
    if half == "option":
        text = text.replace("  realtime: enforce", "  realtime: enforce\n  gripper: true")
    else:
        text += "gripper: {width_m: [0.0, 0.08], speed_m_s: 0.1}\n"
    (tmp_path / "half.yaml").write_text(text)
    with pytest.raises(ArmError, match="Give both, or none"):
        make_arm(load_arm(str(tmp_path / "half.yaml")))


def test_franka_with_errors_is_not_driven(franky: MagicMock) -> None:
    robot = franky.Robot.return_value
    robot.has_errors = True
    with pytest.raises(ArmFaultError, match=r"reports errors.*arm check franka_fr3 --recover"):
        arm_command.main(["check", "franka_fr3"])
    robot.stop.assert_called_once()
    robot.recover_from_errors.assert_not_called()


def test_franka_recovers_when_somebody_asks_for_it(franky: MagicMock, capsys: pytest.CaptureFixture[str]) -> None:
    robot = franky.Robot.return_value
    robot.has_errors = True
    arm_command.main(["check", "franka_fr3", "--recover", "--seconds", "0.05"])
    robot.recover_from_errors.assert_called_once_with()
    assert "fastest joint" in capsys.readouterr().out
    robot.recover_from_errors.side_effect = FrankyError("user stop is pressed")
    with pytest.raises(ArmError, match="does not recover: user stop is pressed"):
        arm_command.main(["check", "franka_fr3", "--recover"])


@pytest.fixture
def rtde(monkeypatch: pytest.MonkeyPatch) -> tuple[MagicMock, MagicMock]:
    control, receive = MagicMock(), MagicMock()
    arm = receive.RTDEReceiveInterface.return_value
    arm.getActualQ.return_value = list(load_arm("ur5e").home)
    arm.getActualQd.return_value = [0.0] * 6
    arm.getActualTCPPose.return_value = [-0.492, -0.133, 0.488, 0, 0, 0]
    arm.getTimestamp.return_value = 1.0
    arm.isEmergencyStopped.return_value = arm.isProtectiveStopped.return_value = False
    monkeypatch.setitem(sys.modules, "rtde_control", control)
    monkeypatch.setitem(sys.modules, "rtde_receive", receive)
    return control.RTDEControlInterface.return_value, arm


def test_ur_servoes_with_its_watchdog_on(rtde: tuple[MagicMock, MagicMock]) -> None:
    control, _ = rtde
    arm: Any = make_arm(load_arm("ur5e"))
    arm.connect()
    control.setWatchdog.assert_not_called()  # nothing is sent yet: it would end the program
    control.servoJ.assert_not_called()
    state = arm.read()
    arm.hold()
    control.servoStop.assert_not_called()  # nothing was commanded
    arm.command(state.q)
    control.setWatchdog.assert_called_once_with(10)
    control.servoJ.assert_called_once_with(state.q.tolist(), 0.0, 0.0, 1 / 250, 0.1, 300)
    control.kickWatchdog.assert_called_once()
    arm.close()
    done = [c[0] for c in control.method_calls if c[0] != "isConnected"]
    assert done[-3:] == ["servoStop", "stopScript", "disconnect"]


def test_ur_that_takes_no_more_commands_says_why(rtde: tuple[MagicMock, MagicMock]) -> None:
    control, receive = rtde
    arm: Any = make_arm(load_arm("ur5e"))
    arm.connect()
    control.servoJ.return_value = False
    with pytest.raises(ArmError, match="its program has ended"):
        arm.command(np.zeros(6))
    receive.isProtectiveStopped.return_value = True
    with pytest.raises(ArmError, match="protective stop"):
        arm.command(np.zeros(6))
    with pytest.raises(ArmError, match="protective stop"):
        make_arm(load_arm("ur5e")).connect()


def test_ur_takes_its_program_again_only_where_it_ended_and_nothing_is_stopped(
    rtde: tuple[MagicMock, MagicMock],
) -> None:
    control, receive = rtde
    arm: Any = make_arm(load_arm("ur5e"))
    arm.connect()
    arm.command(np.zeros(6))
    arm.hold()
    arm.wake()
    control.reuploadScript.assert_not_called()
    control.isProgramRunning.return_value = False
    receive.isEmergencyStopped.return_value = True
    with pytest.raises(ArmError, match="emergency stop"):
        arm.wake()
    control.reuploadScript.assert_not_called()
    receive.isEmergencyStopped.return_value = False
    arm.wake()
    control.reuploadScript.assert_called_once_with()
    arm.command(np.zeros(6))
    assert control.setWatchdog.call_count == 2
    control.reuploadScript.return_value = False
    with pytest.raises(ArmError, match="does not take its program again"):
        arm.wake()


def test_ur_that_cannot_be_reached_is_worded(rtde: tuple[MagicMock, MagicMock]) -> None:
    sys.modules["rtde_control"].RTDEControlInterface.side_effect = RuntimeError("timeout")  # type: ignore[attr-defined]
    with pytest.raises(ArmError, match=r"ur5e at .* cannot be reached: timeout.*remote control"):
        make_arm(load_arm("ur5e")).connect()
    rtde[1].disconnect.assert_called_once()


def test_xarm_enters_servo_mode_with_the_first_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = MagicMock()
    api = wrapper.XArmAPI.return_value
    api.connected, api.error_code = True, 0
    api.get_joint_states.return_value = (0, [[0.1] * 7, [0.0] * 7, [0.0] * 7])
    api.get_position.return_value = (0, [300.0, 0.0, 400.0, 0, 0, 0])
    api.position = [9.0] * 6  # what was reported last, however long ago
    for call in ("set_collision_sensitivity", "motion_enable", "set_mode", "set_state", "set_servo_angle_j"):
        getattr(api, call).return_value = 0
    monkeypatch.setitem(sys.modules, "xarm", types.ModuleType("xarm"))
    monkeypatch.setitem(sys.modules, "xarm.wrapper", wrapper)
    arm: Any = make_arm(load_arm("xarm7"))
    arm.connect()
    np.testing.assert_allclose(arm.read().tool, [0.3, 0.0, 0.4])
    api.get_position.return_value = (3, [0.0] * 6)
    with pytest.raises(ArmError, match="tool position answered code 3"):
        arm.read()
    api.set_mode.assert_not_called()
    arm.command(np.zeros(7))
    api.set_mode.assert_called_once_with(1)
    api.set_servo_angle_j.return_value = 9
    with pytest.raises(ArmError, match="set_servo_angle_j answered code 9"):
        arm.command(np.zeros(7))
    arm.close()
    api.disconnect.assert_called_once()


@pytest.mark.parametrize("name", ["franka_fr3", "ur5e", "xarm7"])
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("franky", "rtde_control", "rtde_receive", "xarm", "xarm.wrapper"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArmError, match=r"which is not installed\. Run `pip install -e '\.\[(franka|ur|xarm)\]'`"):
        make_arm(load_arm(name)).connect()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stiffness:", "stifness:", r"mine\.yaml:\d+: unknown key 'stifness'\. Did you mean 'stiffness'"),
        ("realtime: enforce", "realtime: maybe", r"mine\.yaml:\d+: options\.realtime is 'maybe'"),
        ("  address: 172.16.0.2", "  force_n: 1", r"mine\.yaml:\d+: unknown key 'force_n'"),
        ("[50, 50, 50, 50, 30, 20, 10]", "[50, 50]", r"mine\.yaml:\d+: options\.stiffness is \[50, 50\]"),
        ("home: [0.0, -0.7854", "home: [0.0, -1.75", r"mine\.yaml:\d+: home puts joint2 at -1\.75 rad, outside"),
        ("jerk: 5000, dh: [0, 0, 0.333]", "jerk: 5000", r"mine\.yaml:\d+: joint1 has no dh, others have"),
        (
            "policy_timeout_s: 0.1",
            "policy_timeout_s: 0.03",
            r"mine\.yaml:\d+: policy_timeout_s is 0\.03, shorter",
        ),
        ("rate_hz: 50", "rate_hz: 0", r"mine\.yaml:\d+: rate_hz is 0; it must be above 0"),
        ("rate_hz: 50", "rate_hz: 50\ncommand_rate_hz: 120", r"mine\.yaml:\d+: command_rate_hz is 120, not a multiple"),
    ],
)
def test_wrong_options_name_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = config_path("franka_fr3").read_text()
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        load_arm(str(tmp_path / "mine.yaml"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes("name: Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"mine\.yaml is no UTF-8 text .* Save it as UTF-8"):
        load_arm(str(tmp_path / "mine.yaml"))


def test_check_reads_compares_and_drives_home_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert arm_command.main(["check", "virtual", "--seconds", "0.2"]) == 0
    text = capsys.readouterr().out
    assert "the arm fits its file" in text
    assert "mm apart" in text
    assert "home" not in text


def test_check_says_what_disagrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = config_path("virtual").read_text()
    (tmp_path / "wrong.yaml").write_text(text.replace("offset_m: [0, 0, 0.207]", "offset_m: [0, 0, 0.107]"))
    assert arm_command.main(["check", str(tmp_path / "wrong.yaml"), "--seconds", "0.1"]) == 2
    assert "kinematics place the tool at" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("side", [0, 1])
def test_ur_says_that_its_line_is_cut_and_does_not_wait_for_an_answer(
    rtde: tuple[MagicMock, MagicMock], side: int
) -> None:
    control, _ = rtde
    arm: Any = make_arm(load_arm("ur5e"))
    arm.connect()
    state = arm.read()
    arm.command(state.q)
    rtde[0].isConnected.return_value = False
    rtde[side].isConnected.return_value = False
    with pytest.raises(ArmError, match=r"stopped answering; its controller's watchdog stops the arm"):
        arm.command(state.q) if side == 0 else arm.read()
    arm.hold()
    arm.close()
    control.servoStop.assert_not_called()
    control.stopScript.assert_not_called()
    control.disconnect.assert_called_once()
