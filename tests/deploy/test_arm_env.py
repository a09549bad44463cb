"""An arm as an environment: what is executed is recorded, and stops, pauses and labels do what they say."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from deploy.arms.arm import ArmState
from deploy.arms.config import load_arm
from deploy.arms.joint_arm import AXES
from deploy.commands import actor as actor_command
from deploy.commands.finetune import FinetuneCommand
from deploy.online import arm_env
from deploy.online.actor import ActorReport
from deploy.online.arm_env import ArmEnv
from robot_rl.algorithms.sac import SACConfig
from robot_rl.checkpoint import load_agent
from robot_rl.collect import Collector
from robot_rl.data.replay_log import ReplayLog
from robot_rl.errors import ArmError, ArmStoppedError, ConfigError
from robot_rl.spec import Entry, Spec

CONFIG = load_arm("virtual")
DT = 1.0 / CONFIG.rate_hz


class Bench:
    """A stand-in for a physical arm: it is where it was last told to be, and clocks run by themselves."""

    name = "bench"

    def __init__(self, *, goal: bool) -> None:
        names = tuple(j.name for j in CONFIG.joints)
        entries = [Entry("joint_pos", names, "rad"), Entry("tool_pos", AXES, "m")]
        if goal:
            entries.append(Entry("goal_pos", AXES, "m"))
        low, high = (tuple(j.position[side] for j in CONFIG.joints) for side in (0, 1))
        action = Entry("joint_pos_target", names, "rad", low, high)
        self.spec = Spec(tuple(entries), (action,), rate_hz=CONFIG.rate_hz, control=CONFIG.control)
        self.q = np.array(CONFIG.home) + 0.02
        self.goal, self.holds, self.closed = goal, 0, 0
        self.commands: list[Any] = []

    def connect(self) -> None:
        pass

    def read(self) -> ArmState:
        kinematics = CONFIG.limits().kinematics
        assert kinematics is not None
        tool = np.array(kinematics.tool_at(self.q.tolist()))
        parts = [self.q, tool, tool + np.array([0.01, 0, 0])] if self.goal else [self.q, tool]
        return ArmState(np.concatenate(parts, dtype=np.float32), self.q.copy(), np.zeros(7), tool, time.monotonic())

    def command(self, action: Any) -> None:
        self.commands.append(action.copy())
        self.q = action.copy()

    def hold(self) -> None:
        self.holds += 1

    def close(self) -> None:
        self.closed += 1


def physical(monkeypatch: pytest.MonkeyPatch, *, goal: bool = False, **changes: Any) -> tuple[ArmEnv, Bench]:
    arm = Bench(goal=goal)
    monkeypatch.setattr(arm_env, "make_arm", lambda *_args, **_kwargs: arm)
    config = msgspec.structs.replace(CONFIG, **changes)
    return ArmEnv(config, episode_steps=5), arm


@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is -?infinity.*")
@pytest.mark.filterwarnings("ignore:.*recommend using a symmetric and normalized space.*")  # ours is in rad
def test_a_simulated_arm_is_a_gymnasium_environment() -> None:
    env = ArmEnv(CONFIG, episode_steps=10)
    check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    env.close()


def test_what_was_executed_is_what_is_learned_from() -> None:
    env = ArmEnv(CONFIG, episode_steps=10)
    far = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 3.0, 1.0], np.float32)
    collector = Collector(env, env.robot_spec, seed=0)
    before, _ = env.reset(seed=0)
    rows, _ = collector.step(lambda _obs, _noise: far, 1)
    fastest = np.array([j.velocity for j in CONFIG.joints]) * CONFIG.velocity_share
    moved = np.abs(rows["action"][0] - before[:7])
    assert (moved <= fastest * DT + 1e-6).all()
    assert moved.max() > 0
    assert np.abs(rows["action"][0] - far).max() > 0.5
    assert rows["reward"][0] == pytest.approx(-np.linalg.norm(rows["next_obs"][0][14:17] - rows["next_obs"][0][17:20]))
    env.close()


def test_an_emergency_stop_ends_the_episode_until_somebody_arms_again() -> None:
    env = ArmEnv(CONFIG, episode_steps=50)
    obs, _ = env.reset(seed=0)
    env.station.press("key")
    *_, terminated, truncated, info = env.step(obs[:7])
    assert (terminated, truncated) == (False, True)
    assert "emergency stop" in info["stopped"][0]
    with pytest.raises(ArmError, match=r"virtual stopped: emergency stop.*arm again"):
        env.reset(seed=1)
    env.station.ask_to_arm()
    obs, _ = env.reset(seed=1)
    *_, truncated, info = env.step(obs[:7])
    assert not truncated
    assert info["verdict"] == "passed"
    env.close()


def test_a_stop_by_the_rules_is_over_with_a_simulated_episode() -> None:
    env = ArmEnv(CONFIG, episode_steps=50)
    env.reset(seed=0)
    steps, truncated = 0, False
    while not truncated:
        *_, truncated, info = env.step(np.full(7, np.nan, np.float32))
        steps += 1
    assert steps == CONFIG.stop_after_bad
    assert "policy output not finite" in info["stopped"][0]
    env.reset(seed=1)
    env.close()


def test_a_person_judges_and_prepares_a_physical_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch)
    with pytest.raises(ArmError, match="set the scene"):
        env.reset()
    env.station.obey("go")
    obs, _ = env.reset()
    np.testing.assert_allclose(obs[:7], CONFIG.home, atol=0.02)  # driven home
    obs, reward, terminated, _, info = env.step(obs[:7])
    assert (reward, terminated, "is_success" in info) == (0.0, False, False)
    env.station.obey("success")
    obs, reward, terminated, truncated, info = env.step(obs[:7])
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)
    assert arm.holds > 0
    assert "set the scene" in env.waits
    env.station.obey("go")
    env.reset()
    for step in range(5):
        *_, terminated, truncated, info = env.step(obs[:7])
        assert (terminated, truncated) == (False, step == 4)  # the time limit
    env.close()
    env.close()
    assert arm.closed == 1


def test_a_stopped_physical_arm_drives_home_once_somebody_arms_again(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch)
    env.station.go()
    obs, _ = env.reset()
    env.station.press("key")
    *_, truncated, info = env.step(obs[:7])
    assert truncated
    assert "key" in info["stopped"][0]
    env.station.go()
    with pytest.raises(ArmError, match="arm again"):
        env.reset()
    arm.q = arm.q + 0.05  # somebody moved it
    env.station.ask_to_arm()
    obs, _ = env.reset()
    np.testing.assert_allclose(obs[:7], CONFIG.home, atol=0.02)
    *_, truncated, info = env.step(obs[:7])
    assert "stopped" not in info
    env.close()


def test_what_is_said_in_an_episode_begins_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    env, _ = physical(monkeypatch)
    env.station.go()
    obs, _ = env.reset()
    env.station.go()  # nobody can have set the next scene
    env.station.ask_to_arm()  # nor looked at a stop that was not there
    env.step(obs[:7])
    env.station.judge(success=True)
    _, _, terminated, *_ = env.step(obs[:7])
    assert terminated
    assert env.waits.startswith("set the scene")
    env.station.go()
    obs, _ = env.reset()
    env.station.ask_to_arm()
    truncated = False
    while not truncated:
        *_, truncated, info = env.step(np.full(7, np.nan, np.float32))
    assert "policy output not finite" in info["stopped"][0]
    env.station.go()
    assert "arm again" in env.waits
    env.close()


def test_an_arm_that_was_never_driven_may_be_moved_by_hand_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch)
    read = arm.read
    monkeypatch.setattr(arm, "read", lambda: replace(read(), dq=np.full(7, 0.5)))
    env.hold()  # an actor's first word, while it waits for a policy
    assert not arm.commands
    env.close()


def test_a_stop_pressed_while_an_episode_is_prepared_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch, goal=True, home=())
    commanded = arm.command

    def command(action: Any) -> None:  # the pose that the driver takes control with
        commanded(action)
        if len(arm.commands) == 1:
            env.station.press("key")

    monkeypatch.setattr(arm, "command", command)
    obs, _ = env.reset()
    *_, truncated, info = env.step(obs[:7])
    assert truncated
    assert "key" in info["stopped"][0]
    env.close()


def test_an_arm_with_a_goal_judges_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    env, _ = physical(monkeypatch, goal=True)
    obs, _ = env.reset()
    _, reward, _, _, info = env.step(obs[:7])
    assert reward == pytest.approx(-0.01, abs=1e-6)
    assert info["is_success"]
    env.close()


def test_a_paused_arm_brakes_and_goes_on_from_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch, goal=True, home=())
    obs, _ = env.reset()
    target = obs[:7] + np.float32(0.3)
    for _ in range(3):
        env.step(target)
    count = len(arm.commands)
    env.hold()
    braking = np.diff(np.array(arm.commands[count - 1 :]), axis=0) / DT  # speeds, rad/s
    assert np.abs(braking[-1]).max() < 1e-9
    slowed = np.abs(np.diff(braking, axis=0)) / DT
    assert (slowed <= np.array([j.acceleration for j in CONFIG.joints]) + 1e-6).all()
    assert arm.holds == 1
    assert env.waits == ""
    *_, truncated, info = env.step(target)
    assert not truncated
    assert "stopped" not in info
    env.close()


def test_after_a_pause_the_policy_acts_on_what_is_seen_then(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch, goal=True, home=())
    collector = Collector(env, env.robot_spec, seed=0)
    row, _ = collector.step(lambda obs, _: obs[:7], 1)
    before = row[0]["next_obs"].copy()
    env.hold()
    arm.q = arm.q + 0.1  # somebody leant on it
    row, _ = collector.step(lambda obs, _: obs[:7], 1)
    np.testing.assert_allclose(row[0]["obs"][:7], before[:7] + 0.1, atol=1e-6)
    np.testing.assert_allclose(row[0]["next_obs"][:7], before[:7] + 0.1, atol=1e-6)
    assert not row[0]["starts"]
    env.close()


def test_a_stop_on_the_way_home_waits_for_somebody_to_arm_again(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch)
    arm.q = arm.q + 0.2
    commanded, pressed = arm.command, [30]  # the command at which somebody presses

    def command(action: Any) -> None:
        commanded(action)
        if len(arm.commands) in pressed:
            env.station.press("key")

    monkeypatch.setattr(arm, "command", command)
    env.station.go()
    with pytest.raises(ArmStoppedError, match=r"stopped on its way home: .*key"):
        env.reset()
    assert arm.holds == 1
    env.station.go()
    assert "stopped on its way home" in env.waits
    assert "arm again" in env.waits
    env.station.ask_to_arm()
    obs, _ = env.reset()
    np.testing.assert_allclose(obs[:7], CONFIG.home, atol=0.02)
    env.close()


def test_an_actor_that_ends_brakes_before_it_delivers_and_closes_the_arm_whatever_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env, arm = physical(monkeypatch, goal=True, home=())
    at_drain: list[float] = []

    def speed() -> float:
        return float(np.abs(np.diff(arm.commands[-2:], axis=0)).max()) / DT

    class Link:
        taken, backlog, policy_version = 0, 3, 1

        def __init__(self, *_args: object, **_options: object) -> None:
            pass

        def rehearse(self) -> None:
            pass

        def drain(self, timeout_s: float) -> None:
            del timeout_s
            at_drain.append(speed())

        def close(self) -> None:
            raise OSError("the spool's disk is full")

    def act(_link: Link, collector: Collector, **_options: object) -> ActorReport:
        for _ in range(4):
            collector.step(lambda _obs, _noise: (arm.q + 0.05).astype(np.float32), 0)
        assert speed() > 0.1
        return ActorReport()

    monkeypatch.setattr(actor_command, "ActorLink", Link)
    monkeypatch.setattr(actor_command, "act", act)
    monkeypatch.setattr(actor_command, "open_place", lambda *_args, **_options: (env, env))
    monkeypatch.setattr(actor_command, "env_spec", lambda _env: env.robot_spec)
    with pytest.raises(OSError, match="disk is full"):
        actor_command.main(["--arm", "virtual", "--spool", str(tmp_path), "--quiet"])
    assert at_drain == [pytest.approx(0.0, abs=1e-9)]
    assert arm.closed == 1


def test_a_silent_policy_makes_the_watchdog_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    env, arm = physical(monkeypatch, goal=True, policy_timeout_s=0.1)
    obs, _ = env.reset()
    env.step(obs[:7])
    time.sleep(0.4)
    assert arm.holds == 2  # after homing, and now
    *_, truncated, info = env.step(obs[:7])
    assert truncated
    assert "policy took too long" in info["stopped"][0]
    assert "policy took too long" in env.waits
    env.close()


def test_noise_memory_keeps_the_size_and_drifts() -> None:
    env = ArmEnv(CONFIG, episode_steps=2000)
    seen: list[Any] = []
    collector = Collector(env, env.robot_spec, seed=0, noise_memory=0.9)

    def note(obs: Any, noise: Any) -> Any:
        seen.append(noise.copy())
        return obs[:7]

    for _ in range(2000):
        collector.step(note, 0)
    noise = np.array(seen)
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    assert np.mean(noise[1:] * noise[:-1]) == pytest.approx(0.9, abs=0.1)
    env.close()
    with pytest.raises(ConfigError, match=r"--noise-memory is 1; it must lie in \[0, 1\)"):
        Collector(env, env.robot_spec, seed=0, noise_memory=1.0)


def test_fine_tuning_on_an_arm_by_the_command_line(tmp_path: Path) -> None:
    words = "finetune td3-bc --arm virtual --env VirtualArm-v1 --episode-steps 50 --steps 300 --warmup 100"
    small = "--agent.hidden 16 --agent.batch-size 32 --agent.exploration 0.1 --noise-memory 0.9"
    command = [
        sys.executable,
        "-P",
        "-m",
        "robot_rl.cli",
        *words.split(),
        *small.split(),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = ReplayLog(tmp_path / "run" / "transitions", load_agent(tmp_path / "run")[0].spec).read(0, 300)
    fastest = np.array([j.velocity for j in CONFIG.joints]) * CONFIG.velocity_share
    later = rows["starts"][1:] == 0
    steps = np.abs(np.diff(rows["action"], axis=0))[later]  # executed targets, one after the other
    assert (steps <= fastest * DT + 1e-5).all()
    with pytest.raises(ConfigError, match="driven by one actor"):
        FinetuneCommand(algorithm="sac", out=tmp_path, agent=SACConfig(), arm="virtual", in_turns=True)
