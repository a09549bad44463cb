from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy.arms.arm import Arm, Episodic
from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm, require_same_arm
from hardware_configs import FOLDER
from robot_rl.errors import ConfigError, EnvError
from robot_rl.spec import Spec
from sim.virtual_arm import load_model

VIRTUAL = (FOLDER / "virtual.yaml").read_text()


def changed(tmp_path: Path, old: str, new: str) -> str:
    assert old in VIRTUAL
    file = tmp_path / "mine.yaml"
    file.write_text(VIRTUAL.replace(old, new, 1))
    return str(file)


def test_shipped_configs_load_and_name_their_source() -> None:
    files = sorted(FOLDER.glob("*.yaml"))
    assert {"virtual", "robosuite_panda"} <= {f.stem for f in files}
    for file in files:
        config = load_arm(file.stem)
        assert config.name == file.stem
        assert config.source
        assert config.limits().rate_hz == config.rate_hz * config.commands_per_step


def test_virtual_config_has_the_model_s_joint_limits() -> None:
    joints, model = load_arm("virtual").limits().joints, load_model()
    np.testing.assert_allclose(np.stack([joints.low, joints.high]), model.jnt_range.T, atol=1e-6)
    assert list(joints.names) == [model.joint(i).name for i in range(model.njnt)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate_hz: 50", "rate: 50", r"mine\.yaml:6: unknown key 'rate'\. Did you mean 'rate_hz'\?"),
        ("velocity: 2.62", "speed: 2.62", r"mine\.yaml:10: unknown key 'speed'.*velocity"),
        (
            "speed_m_s: 1.5",
            "sped_m_s: 1.5",
            r"mine\.yaml:2\d: unknown key 'sped_m_s'\. Did you mean 'speed_m_s'",
        ),
        ("rate_hz: 50", "rate_hz: fast", r"mine\.yaml:6: rate_hz is 'fast': expected `float`, got `str`"),
        ("2.7437]", "x]", r"mine\.yaml:10: joints\[0\]\.position\[1\] is 'x'"),
        ("ramp_s: 0.3\n", "", r"mine\.yaml:2: key 'ramp_s' is missing"),
        (
            "[-2.7437, 2.7437]",
            "[2.7, -2.7]",
            r"mine\.yaml:10: joint1: position runs from 2\.7 to -2\.7 rad; swap",
        ),
        ("stale_after_s: 0.06", "stale_after_s: 0.01", r"stale_after_s is 0\.01, shorter.* 0\.02 s"),
        (
            "control: joint_position",
            "control: torque",
            r"control is 'torque'; .* joint_position and osc_pose",
        ),
        ("soft_margin_rad: 0.05", "soft_margin_rad: 2", "joint2: positions .* leave no room"),
        ("rate_hz: 50", "rate_hz: [", "is not valid YAML"),
        ("name: joint3", "name: joint1", r"mine\.yaml:12: joints\[0\] and joints\[2\] are both called 'joint1'; give"),
        (
            "ramp_s: 0.3\n",
            "ramp_s: 0.3\nvelocity_share: 1.0\n",
            r"mine\.yaml:28: key 'velocity_share' stands here and in line 18; keep one",
        ),
        (
            "velocity: 2.62",
            "velocity: 2.62, velocity: 26.2",
            r"mine\.yaml:10: key 'velocity' stands here and in line 10",
        ),
        (
            "[-2.7437, 2.7437]",
            "[-157.2, 157.2]",
            r"mine\.yaml:10: joint1: position of 157\.2 rad is 25 turns; degrees\?",
        ),
        ("velocity: 5.26", "velocity: 301", r"mine\.yaml:14: joint5: velocity of 301 rad/s is 48 turns; degrees\?"),
        ("[0.9, 0.8, 1.3]", "[900, 800, 1300]", r"tool\.workspace_high_m is 1300 m; millimetres\? Write m"),
    ],
)
def test_wrong_configs_name_line_key_and_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_arm(changed(tmp_path, old, new))


def test_unknown_names_and_files() -> None:
    with pytest.raises(ConfigError, match=r"No arm 'virtul'.*Did you mean 'virtual'"):
        load_arm("virtul")
    with pytest.raises(ConfigError, match=r"Cannot read arm config gone\.yaml"):
        load_arm("gone.yaml")


def test_unknown_driver_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml:3: driver is 'mujco'. Did you mean 'mujoco'"):
        load_arm(changed(tmp_path, "driver: mujoco", "driver: mujco"))


def connected(**options: int) -> Arm:
    arm = make_arm(load_arm("virtual"), **options)  # type: ignore[arg-type]
    arm.connect()
    return arm


def test_mujoco_arm_moves_joints_and_ends_its_episodes() -> None:
    arm = connected(seed=5, episode_steps=30)
    assert isinstance(arm, Episodic)
    start = arm.read()
    for _ in range(30):
        arm.command(start.q + 0.1)
        arm.advance()
    end = arm.read()
    np.testing.assert_allclose(end.q - start.q, 0.1, atol=0.02)
    np.testing.assert_allclose(end.obs[:7], end.q, atol=1e-6)
    assert end.stamp_s >= start.stamp_s
    assert arm.over
    assert arm.episode_return < 0
    with pytest.raises(EnvError, match="call restart"):
        arm.command(start.q)
    arm.restart()
    assert not arm.over
    arm.close()
    arm.close()
    with pytest.raises(EnvError, match="not connected"):
        arm.restart()


def test_same_seed_same_episode() -> None:
    first, second, other = (connected(seed=s).read().obs for s in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_environment_without_joint_state_is_refused() -> None:
    arm = make_arm(load_arm("virtual"), env_id="Pendulum-v1")
    with pytest.raises(EnvError, match=r"does not tell its joint state.*joint_positions"):
        arm.connect()


def test_config_that_contradicts_the_arm_is_refused(tmp_path: Path, reach_spec: Spec) -> None:
    require_same_arm(load_arm("virtual"), reach_spec)
    slow = load_arm(changed(tmp_path, "rate_hz: 50", "rate_hz: 20"))
    with pytest.raises(ConfigError, match=r"says rate_hz: 20, the connected arm runs at 50 Hz\. Set rate_hz: 50"):
        require_same_arm(slow, reach_spec)


XARM7_URDF = (  # xarm_ros, xarm_description/urdf/xarm7/xarm7.urdf.xacro: xyz (m) and roll (rad) of each joint's origin
    ((0.0, 0.0, 0.267), 0.0),
    ((0.0, 0.0, 0.0), -np.pi / 2),
    ((0.0, -0.293, 0.0), np.pi / 2),
    ((0.0525, 0.0, 0.0), np.pi / 2),
    ((0.0775, -0.3425, 0.0), np.pi / 2),
    ((0.0, 0.0, 0.0), np.pi / 2),
    ((0.076, 0.097, 0.0), -np.pi / 2),
)


def test_xarm7_s_kinematics_are_those_of_the_maker_s_urdf() -> None:
    kinematics = load_arm("xarm7").limits().kinematics
    assert kinematics is not None
    rng = np.random.default_rng(0)
    for joints in (np.zeros(7), *rng.uniform(-3, 3, (20, 7))):
        pose = np.eye(4)
        for (xyz, roll), q in zip(XARM7_URDF, joints, strict=True):
            c, s, cq, sq = np.cos(roll), np.sin(roll), np.cos(q), np.sin(q)
            origin = np.array([[1, 0, 0, xyz[0]], [0, c, -s, xyz[1]], [0, s, c, xyz[2]], [0, 0, 0, 1]])
            turn = np.array([[cq, -sq, 0, 0], [sq, cq, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
            pose = pose @ origin @ turn
        np.testing.assert_allclose(kinematics.tool_at(joints.tolist()), pose[:3, 3], atol=1e-12)
    # by hand at zero: x = 0.0525 + 0.0775 + 0.076, z = 0.267 + 0.293 - 0.3425 - 0.097
    np.testing.assert_allclose(kinematics.tool_at([0.0] * 7), (0.206, 0.0, 0.1205), atol=1e-12)


def test_xarm7_s_ranges_lie_within_those_of_both_hardware_versions() -> None:
    turn, pi = 2 * np.pi, np.pi
    x4 = [(-turn, turn), (-2.059488, 2.094395), (-turn, turn), (-0.191986, 3.92699), (-turn, turn), (-1.692969, pi)]
    x4_1305 = [(-turn, turn), (-2.042035, 2.024581), (-turn, turn), (-0.10472, 3.92699), (-turn, turn), (-1.692969, pi)]
    joints = load_arm("xarm7").joints
    for sold in ([*x4, (-turn, turn)], [*x4_1305, (-turn, turn)]):
        for joint, (low, high) in zip(joints, sold, strict=True):
            assert low <= joint.position[0] < joint.position[1] <= high, joint.name
            assert joint.velocity <= pi
            assert joint.acceleration < 20
