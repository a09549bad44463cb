"""From axes to actions, and when a person is in command."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.teleop.device import AXES, END, GRIP, SAVE, TAKE, Reading
from deploy.teleop.drive import JOG_RAD_S, LEAD_RAD, drive_for
from deploy.teleop.keyboard import Words
from deploy.teleop.pilot import LINGER_S, HandPilot
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.spec import Array, Entry, Spec, vector

AXES_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
TWIST = Spec((vector("obs", 3),), tuple(Entry(n, (n,), "1", (-1.0,), (1.0,)) for n in AXES_NAMES), 20.0, "osc_pose")
NAMES = tuple(f"joint{i}" for i in range(1, 8))
JOINTS = Spec(
    (Entry("joint_pos", NAMES, "rad"), vector("goal", 2)),
    (Entry("joint_pos_target", NAMES, "rad", (-1.0,) * 7, (1.0,) * 7),
     Entry("gripper_width_target", ("width",), "m", (0.0,), (0.08,))),
    50.0,
    "joint_position",
)  # fmt: skip


def axes(**on: float) -> Array:
    names = ("x", "y", "z", "roll", "pitch", "yaw")
    return np.array([on.get(name, 0.0) for name in names], np.float32)


def test_axes_are_the_tools_displacement_and_the_gripper_stays_as_the_policy_has_it() -> None:
    drive, asked = drive_for(TWIST), np.array([0.3] * 6 + [0.9], np.float32)
    drive.begin(np.zeros(3, np.float32), asked)
    action = drive.action(np.zeros(3, np.float32), axes(x=0.5, yaw=-1.0), first=3, closed=None)
    np.testing.assert_allclose(action, [0.5, 0, 0, 0, 0, -1.0, 0.9])
    assert drive.closed(asked)
    assert drive.action(np.zeros(3, np.float32), axes(), first=0, closed=False)[6] == -1.0
    assert drive.action(np.zeros(3, np.float32), axes(), first=0, closed=True)[6] == 1.0


def test_joints_are_jogged_from_where_they_stand_and_hold_when_nothing_is_pressed() -> None:
    drive, obs = drive_for(JOINTS), np.full(9, 0.2, np.float32)
    drive.begin(obs, np.zeros(8, np.float32))
    one = drive.action(obs, axes(x=1.0), first=2, closed=True)
    two = drive.action(obs, axes(x=1.0, y=-0.5), first=2, closed=None)
    step = JOG_RAD_S / 50
    np.testing.assert_allclose(one, [0.2, 0.2, 0.2 + step, 0.2, 0.2, 0.2, 0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(two, [0.2, 0.2, 0.2 + 2 * step, 0.2 - step / 2, 0.2, 0.2, 0.2, 0.0], atol=1e-6)
    np.testing.assert_array_equal(drive.action(obs, axes(), first=0, closed=None), two)
    assert drive.action(obs, axes(), first=0, closed=False)[7] == pytest.approx(0.08)


def test_a_target_never_runs_away_from_a_joint_that_is_held() -> None:
    drive, obs = drive_for(JOINTS), np.full(9, 0.2, np.float32)
    drive.begin(obs, np.zeros(8, np.float32))
    for _ in range(200):
        action = drive.action(obs, axes(z=1.0), first=6, closed=None)  # y and z would be joints 8 and 9
        np.testing.assert_allclose(action[:6], 0.2, atol=1e-6)
        action = drive.action(obs, axes(x=1.0), first=6, closed=None)
    assert action[6] == pytest.approx(0.2 + LEAD_RAD)
    assert not drive.closed(np.array([0.0] * 7 + [0.06]))


def test_other_actions_are_driven_between_rest_and_bounds() -> None:
    spec = Spec((vector("obs", 1),), (Entry("a", ("0", "1"), "1", (-2.0, 0.5), (4.0, 1.0)),), 10.0, "torque")
    drive = drive_for(spec)
    drive.begin(np.zeros(1, np.float32), np.zeros(2, np.float32))
    rest = drive.action(np.zeros(1, np.float32), axes(), first=0, closed=None)
    np.testing.assert_allclose(rest, [0.0, 0.5])
    pushed = drive.action(np.zeros(1, np.float32), axes(x=-0.5, y=1.0), first=0, closed=None)
    np.testing.assert_allclose(pushed, [-1.0, 1.0])


def test_what_axes_cannot_drive_is_refused() -> None:
    with pytest.raises(ConfigError, match="Discrete actions"):
        drive_for(env_spec(make_env("CartPole-v1")))
    free = Spec((vector("obs", 1),), (vector("a", 2),), 10.0)
    with pytest.raises(ConfigError, match="without bounds"):
        drive_for(free)
    blind = Spec((vector("obs", 1),), JOINTS.action[:1], 50.0, "joint_position")
    with pytest.raises(ConfigError, match=r"joint1.*'joint_pos' \(none\)"):
        drive_for(blind)


class Hand:
    """A device that does what the test says."""

    help = ""

    def __init__(self) -> None:
        self.axes, self.words = np.zeros(AXES, np.float32), []

    def read(self) -> Reading:
        words, self.words = self.words, []
        return Reading(self.axes.copy(), tuple(words))

    def hear(self, key: str) -> None:
        pass

    def close(self) -> None:
        pass


OBS, ASKED = np.zeros(3, np.float32), np.array([0.1] * 6 + [1.0], np.float32)


def test_what_was_pressed_before_an_episode_is_not_obeyed_in_it() -> None:
    hand = Hand()
    pilot = HandPilot(hand, drive_for(TWIST), Words())
    hand.words = [TAKE, GRIP, SAVE, END]
    pilot.begin(np.zeros(3, np.float32), 0)
    assert pilot.command(np.zeros(3, np.float32), np.zeros(7, np.float32)) is None
    assert pilot.take_words() == [END]  # who wants to stop shall not have to say it twice


def test_a_person_commands_while_they_move_and_a_moment_longer() -> None:
    now, hand = [100.0], Hand()
    pilot = HandPilot(hand, drive_for(TWIST), Words(), speed=0.5, clock=lambda: now[0])
    pilot.begin(OBS, 0)
    assert pilot.command(OBS, ASKED) is None
    hand.axes = axes(x=1.0)
    np.testing.assert_allclose(pilot.command(OBS, ASKED), [0.5, 0, 0, 0, 0, 0, 1.0])
    hand.axes = axes()
    now[0] += LINGER_S * 0.9
    np.testing.assert_allclose(pilot.command(OBS, ASKED), [0, 0, 0, 0, 0, 0, 1.0])  # stands still, holds the cube
    now[0] += LINGER_S * 0.2
    assert pilot.command(OBS, ASKED) is None


def test_the_gripper_opens_first_where_the_policy_had_it_closed() -> None:
    hand = Hand()
    pilot = HandPilot(hand, drive_for(TWIST), Words())
    pilot.begin(OBS, 0)
    hand.words = [GRIP]
    action = pilot.command(OBS, ASKED)
    assert action is not None
    assert action[6] == -1.0


def test_taking_over_lasts_until_it_is_handed_back() -> None:
    now, hand, words = [0.0], Hand(), Words(space_takes=True)
    pilot = HandPilot(hand, drive_for(TWIST), words, clock=lambda: now[0])
    pilot.begin(OBS, 0)
    words.hear("space")
    for _ in range(5):
        now[0] += 10
        assert pilot.command(OBS, ASKED) is not None
    hand.words = [TAKE]
    assert pilot.command(OBS, ASKED) is None
    words.hear("right")
    pilot.command(OBS, ASKED)
    assert pilot.take_words() == ["save"]
    words.hear("tab")
    pilot.command(OBS, ASKED)
    pilot.begin(OBS, 1)
    assert pilot.command(OBS, ASKED) is None  # a new episode is the policy's


def test_speed_has_bounds() -> None:
    hand, words = Hand(), Words()
    pilot = HandPilot(hand, drive_for(TWIST), words, always=True)
    pilot.begin(OBS, 0)
    hand.axes = axes(x=1.0)
    for key, wanted in (("+", 1.0), ("-", 0.1)):
        for _ in range(30):
            words.hear(key)
        action = pilot.command(OBS, ASKED)
        assert action is not None
        assert action[0] == pytest.approx(wanted)
