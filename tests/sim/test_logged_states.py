from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest

from robot_rl.envs import Env, env_spec
from robot_rl.errors import DataError, EnvError
from sim.mj import mujoco
from sim.robosuite_env import RobosuiteEnv

Make = Callable[[str], Env]


def lift(made: Make) -> RobosuiteEnv:
    return cast("RobosuiteEnv", made("robosuite/Lift-v1").unwrapped)


def test_a_logged_state_shows_what_robomimic_extracted(made: Make, shared_data: Path) -> None:
    env = lift(made)
    with h5py.File(shared_data / "robosuite_lift_human" / "low_dim_robomimic.hdf5") as file:
        demo = cast("Any", file["data/demo_0"])
        for t in range(0, 226, 45):
            obs, reward, success = env.observe_state(demo["states"][t], demo.attrs["model_file"])
            theirs = np.concatenate([demo["obs"][e.name][t] for e in env.robot_spec.observation])
            np.testing.assert_allclose(obs, theirs, atol=1e-6)
            assert reward == float(success)
            if t > 0:  # theirs is the reward of the step that led here
                assert reward == demo["rewards"][t - 1]


def test_the_human_demonstrations_end_in_success(made: Make, shared_data: Path) -> None:
    env = lift(made)
    with h5py.File(shared_data / "robosuite_lift_human" / "demo.hdf5") as file:
        for i in range(1, 5):
            demo = cast("Any", file[f"data/demo_{i}"])
            assert not env.observe_state(demo["states"][0], demo.attrs["model_file"])[2]
            _, reward, success = env.observe_state(demo["states"][-1], demo.attrs["model_file"])
            assert success
            assert reward == 1.0


def test_a_step_observes_the_state_it_ends_in(made: Make) -> None:
    env = lift(made)
    env.reset(seed=0)
    for _ in range(3):
        obs, *_ = env.step(np.ones(7, np.float32))
    data = env._data
    state = np.concatenate([[data.time], data.qpos, data.qvel])
    np.testing.assert_array_equal(env.observe_state(state, "")[0], obs)


def test_a_doors_frame_is_put_where_the_log_had_it(made: Make, tmp_path: Path) -> None:
    env = made("robosuite/Door-v1")
    raw = cast("RobosuiteEnv", env.unwrapped)
    logged, _ = env.reset(seed=1)
    state = np.concatenate([[0.0], raw._data.qpos, raw._data.qvel])
    mujoco.mj_saveLastXML(str(tmp_path / "model.xml"), raw._model)
    xml = (tmp_path / "model.xml").read_text()
    env.reset(seed=2)
    assert np.abs(raw.observe_state(state, "")[0] - logged).max() > 1e-3
    np.testing.assert_allclose(raw.observe_state(state, xml)[0], logged, atol=1e-4)


def test_a_state_of_another_size_is_refused_with_both_sizes(made: Make) -> None:
    with pytest.raises(EnvError, match=r"40 numbers.* 32 \(time, 16 positions, 15 velocities\).*--env"):
        lift(made).observe_state(np.zeros(40), "")


def test_a_model_with_other_joints_is_refused_by_name(made: Make) -> None:
    xml = "<mujoco><worldbody><body><joint name='elbow'/></body></worldbody></mujoco>"
    with pytest.raises(EnvError, match=r"1 joints.* 10; .*'elbow' in the log, 'robot0_joint1' here"):
        lift(made).observe_state(np.zeros(32), xml)


def test_a_model_that_is_not_xml_is_refused(made: Make) -> None:
    with pytest.raises(DataError, match="not XML"):
        lift(made).observe_state(np.zeros(32), "lift.xml")


def test_arm_state_in_physical_units(made: Make) -> None:
    env = lift(made)
    obs, _ = env.reset(seed=0)
    see = env_spec(env).slice_of
    np.testing.assert_allclose(env.joint_positions(), obs[see("robot0_joint_pos")], atol=1e-6)
    np.testing.assert_allclose(env.joint_velocities(), obs[see("robot0_joint_vel")], atol=1e-6)
    np.testing.assert_allclose(env.eef_position(), obs[see("robot0_eef_pos")], atol=1e-6)
    # Franka's data sheet for the Panda: joint 4 lies in [-3.0718, -0.0698] rad
    np.testing.assert_allclose(env.joint_limits()[:, 3], [-3.0718, -0.0698], atol=1e-4)


@pytest.mark.parametrize(
    ("env_id", "file"),
    [
        ("AdroitHandDoor-v1", "adroit_door_human/adroit_door_human_d4rl.hdf5"),
        ("AdroitHandPen-v1", "adroit_pen_awac/adroit_pen_awac_d4rl.hdf5"),
    ],
)
def test_adroit_is_reset_to_a_logged_observation(made: Make, shared_data: Path, env_id: str, file: str) -> None:
    env = made(env_id)
    with h5py.File(shared_data / file) as log:
        observations = cast("Any", log["observations"])[:400].astype(np.float32)
    for t in (0, 100, 399):
        shown = env.get_wrapper_attr("reset_to_obs")(observations[t])
        np.testing.assert_allclose(shown, observations[t], atol=1e-3)


def test_adroit_refuses_an_observation_that_no_state_shows(made: Make) -> None:
    env = made("AdroitHandDoor-v1")
    obs, _ = env.reset(seed=0)
    odd = obs.copy()
    odd[env_spec(env).slice_of("handle_to_palm")] += 0.1
    with pytest.raises(EnvError, match=r"handle_to_palm/[xyz] is .* in the log"):
        env.get_wrapper_attr("reset_to_obs")(odd)
    with pytest.raises(EnvError, match="39 numbers, the log's has 45"):
        env.get_wrapper_attr("reset_to_obs")(np.zeros(45, np.float32))
