from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy.commands.record import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.episode import Episode
from robot_rl.envs import Env, env_spec
from robot_rl.errors import ConfigError, EnvError
from robot_rl.experts import make_expert
from sim.commands.locomotion import digest
from sim.demonstrate import demonstrate, demonstrations
from sim.named import Named, axes, nearest_angle, pointing_down, turn_between

Make = Callable[[str], Env]


@pytest.mark.parametrize(
    ("env_id", "noise", "limit"), [("robosuite/Lift-v1", 0.2, 60), ("robosuite/Door-v1", 0.1, 110)]
)
def test_the_expert_succeeds_soon(made: Make, env_id: str, noise: float, limit: int) -> None:
    env = made(env_id)
    spec = env_spec(env)
    expert = make_expert(env_id, spec, noise=noise)
    for seed in (100, 101):
        episode = demonstrate(env, spec, expert, seed=seed, after_success=3)
        assert episode.success
        assert len(episode) <= limit
        assert episode.truncated
        assert not episode.terminated
        assert episode.rewards[-4:].tolist() == [1.0] * 4
        assert episode.rewards[:-4].max() == 0.0
        assert np.abs(episode.actions).max() <= 1.0
        assert episode.timestamps is not None
        assert episode.timestamps[-1] == pytest.approx(len(episode) / 20)


def test_noise_and_pauses_come_from_the_seed_alone(made: Make) -> None:
    spec = env_spec(made("robosuite/Lift-v1"))
    obs, _ = made("robosuite/Lift-v1").reset(seed=0)

    def actions(seed: int, noise: float, pause: float = 0.0) -> np.ndarray:
        expert = make_expert("robosuite/Lift-v1", spec, noise=noise, pause=pause)
        expert.reset(np.random.default_rng(seed))
        return np.array([expert.act(obs) for _ in range(400)])

    np.testing.assert_array_equal(actions(0, 0.1, 0.2), actions(0, 0.1, 0.2))
    assert not np.array_equal(actions(0, 0.1), actions(1, 0.1))
    spread = actions(0, 0.1)[:, :6].std(axis=0)
    assert spread[2] < 0.07  # full speed down already: half of the noise is clipped
    np.testing.assert_allclose(spread[[3, 4]], 0.1, rtol=0.15)
    assert set(actions(0, 0.1)[:, 6]) == {-1.0}  # the gripper gets none
    still = np.abs(actions(0, 0.0, 0.1)[:, :6]).max(axis=1) == 0.0
    assert 0.15 < still.mean() < 0.5  # 0.1 a step, 4 steps each: 0.1 * 4 / (0.9 + 0.1 * 4) = 0.31


def test_an_environment_without_an_expert_names_those_with_one(made: Make) -> None:
    with pytest.raises(EnvError, match=r"no scripted expert for 'Hopper-v5'.*robosuite/Lift-v1"):
        make_expert("Hopper-v5", env_spec(made("Hopper-v5")))


def test_sensors_are_read_by_name(made: Make) -> None:
    env = made("robosuite/Door-v1")
    obs, _ = env.reset(seed=0)
    seen = Named(env_spec(env), obs)
    np.testing.assert_array_equal(seen.sensor("handle_pos"), obs[3:6])
    assert seen.sensor("hinge_qpos").shape == (1,)
    np.testing.assert_allclose(
        seen.sensor("handle_to_eef_pos"), seen.sensor("handle_pos") - seen.entry("robot0_eef_pos"), atol=1e-6
    )


def test_turns() -> None:
    quarter = axes(np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)]))  # a quarter turn about z
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turn_between(np.eye(3), quarter), [0, 0, np.pi / 2], atol=1e-12)
    np.testing.assert_allclose(pointing_down(0.3) @ [0, 0, 1], [0, 0, -1])
    assert np.linalg.det(pointing_down(0.3)) == pytest.approx(1.0)
    assert nearest_angle(1.5, to=0.0, period=np.pi / 2) == pytest.approx(1.5 - np.pi / 2)


def fake(success: bool) -> Callable[[int], Episode]:
    return lambda seed: Episode(
        observations=np.zeros((2, 1)),
        actions=np.zeros((1, 1)),
        rewards=np.zeros(1),
        success=success,
        source=str(seed),
    )


def test_failures_are_kept_unless_told_otherwise() -> None:
    told: list[bool] = []

    def attempt(seed: int) -> Episode:
        return fake(seed % 2 == 1)(seed)

    def run(only: bool) -> list[str]:
        told.clear()
        found = demonstrations(
            attempt, episodes=3, seed=10, only_successes=only, done=lambda _, kept: told.append(kept)
        )
        return [e.source for e in found]

    assert run(only=False) == ["10", "11", "12"]
    assert run(only=True) == ["11", "13", "15"]
    assert told == [False, True] * 3


def test_an_expert_that_always_fails_is_given_up() -> None:
    with pytest.raises(EnvError, match=r"succeeded 0 times in 20 attempts.*--only-successes"):
        list(demonstrations(fake(False), episodes=5, seed=0, only_successes=True, done=lambda *_: None))


def test_record_writes_the_same_dataset_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # as users do: a path relative to where they are
    command = ["robosuite/Lift-v1", "--episodes", "1", "--seed", "7", "--json", "--noise", "0.15"]
    for name in ("a", "b"):
        assert main([*command, "--out", name]) == 0
        figures = json.loads(capsys.readouterr().out)  # nothing but the object
    one, two = load_dataset(tmp_path / "a"), load_dataset(tmp_path / "b")
    assert figures["episodes"] == one.total_episodes == 1
    assert figures["steps"] == one.total_steps
    assert figures["success_share"] == 1.0
    assert one.spec.env_id == "robosuite/Lift-v1"
    assert "noise 0.15" in one.notes[0]
    np.testing.assert_array_equal(one.episode(0).observations, two.episode(0).observations)
    np.testing.assert_array_equal(one.episode(0).actions, two.episode(0).actions)
    assert one.episode(0).success


def test_levels_of_noise_are_taken_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["VirtualArm-v1", "--episodes", "3", "--episode-steps", "5", "--seed", "4", "--json", "--out"]
    assert main([*command, str(tmp_path / "mixed"), "--noises", "0", "0.3"]) == 0
    mixed = json.loads(capsys.readouterr().out)
    assert main([*command, str(tmp_path / "plain"), "--noise", "0.3"]) == 0
    capsys.readouterr()
    dataset = load_dataset(tmp_path / "mixed")
    episodes = list(dataset)
    assert [e.source.split("seed=")[1] for e in episodes] == ["4:noise=0", "5:noise=0.3", "6:noise=0"]
    assert mixed["sha256"] == digest(episodes)
    assert "noise 0, 0.3 in turn" in dataset.notes[0]
    plain = load_dataset(tmp_path / "plain")
    np.testing.assert_array_equal(episodes[1].actions, plain.episode(1).actions)
    assert not np.array_equal(episodes[0].actions, plain.episode(0).actions)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--episodes", "0"], "--episodes is 0; it must be between 1 and"),
        (["--noise", "-0.1"], "--noise is -0.1"),
        (["--noises", "0.1", "-0.2"], "--noises is -0.2"),
        (["--noises", "0.1", "--teleop", "scripted"], "--noises is for recording without --teleop"),
        (["--pause", "1.5"], "--pause is 1.5; it must be between 0 and 1"),
    ],
)
def test_record_refuses_values_out_of_range(tmp_path: Path, extra: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main(["robosuite/Lift-v1", "--out", str(tmp_path / "d"), *extra])
    assert not list(tmp_path.iterdir())


def test_record_leaves_an_existing_folder_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        main(["robosuite/Lift-v1", "--out", str(tmp_path)])
