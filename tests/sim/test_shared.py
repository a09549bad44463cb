"""One layout for all robosuite tasks."""

import numpy as np
import pytest

from robot_rl.envs import env_spec, make_env
from robot_rl.errors import EnvError, SpecMismatch
from robot_rl.experts import make_expert
from robot_rl.spec import Array
from sim.demonstrate import demonstrate
from sim.named import Named
from sim.robosuite_env import RobosuiteEnv
from sim.robosuite_shared import SENSORS

pytest.importorskip("robosuite")


def first_seen(env_id: str) -> Named:
    env = make_env(env_id)
    obs: Array = env.reset(seed=3)[0]
    seen = Named(env_spec(env), obs)
    env.close()
    return seen


def test_all_tasks_look_alike() -> None:
    specs = {}
    for task in SENSORS:
        env = make_env(f"robosuite-shared/{task}-v1")
        specs[task] = env_spec(env)
        env.close()
    lift = specs.pop("Lift")
    assert lift.obs_dim == 18 + 25
    for task, spec in specs.items():
        lift.require_match(spec, "Lift", task, "")
        assert spec.env_id == f"robosuite-shared/{task}-v1"
    with pytest.raises(SpecMismatch):
        lift.require_match(first_seen("robosuite/Lift-v1")._spec, "shared", "its own", "")


@pytest.mark.parametrize("task", list(SENSORS))
def test_the_same_scene_is_seen_in_both_layouts(task: str) -> None:
    own, shared = first_seen(f"robosuite/{task}-v1"), first_seen(f"robosuite-shared/{task}-v1")
    for place, sensor in SENSORS[task].items():
        np.testing.assert_allclose(shared.sensor(place), own.sensor(sensor), atol=1e-6)
    for entry in ("robot0_eef_pos", "robot0_joint_pos", "robot0_gripper_qpos"):
        np.testing.assert_allclose(shared.entry(entry), own.entry(entry), atol=1e-6)
    way = shared.sensor("object_pos") - shared.entry("robot0_eef_pos")
    np.testing.assert_allclose(shared.sensor("gripper_to_object"), way, atol=1e-5)
    lacks = {"object_quat", "object2_pos", "handle_qpos", "hinge_qpos"} - set(SENSORS[task])
    assert all(not shared.sensor(place).any() for place in lacks)


def test_goals_lie_where_the_tasks_want_the_object() -> None:
    cube = first_seen("robosuite-shared/Lift-v1")
    assert cube.sensor("goal_pos")[2] == pytest.approx(0.84)
    can = first_seen("robosuite-shared/PickPlaceCan-v1")
    np.testing.assert_allclose(can.sensor("goal_pos"), [0.1975, 0.4025, 0.8], atol=1e-6)
    assert np.abs(can.sensor("goal_pos") - can.sensor("object_pos"))[:2].max() > 0.1


@pytest.mark.parametrize("task", ["Lift", "Door"])
def test_experts_do_the_same_in_both_layouts(task: str) -> None:
    attempts = []
    for family in ("robosuite", "robosuite-shared"):
        env = make_env(f"{family}/{task}-v1", max_episode_steps=40)
        spec = env_spec(env)
        expert = make_expert(spec.env_id, spec, noise=0.1)
        attempts.append(demonstrate(env, spec, expert, seed=5))
        env.close()
    np.testing.assert_allclose(attempts[0].actions, attempts[1].actions, atol=1e-5)


def test_the_reward_is_shaped() -> None:
    env = make_env("robosuite-shared/PickPlaceCan-v1")
    env.reset(seed=0)
    assert 0 < float(env.step(np.zeros(7, np.float32))[1]) < 1
    env.close()


def test_a_task_without_a_place_is_refused() -> None:
    with pytest.raises(EnvError, match="'Stack' has no shared layout; Lift, Door"):
        RobosuiteEnv("Stack", shared=True)
