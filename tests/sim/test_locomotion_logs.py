"""Logs of named quality: exact length, right ends, and the same from the same seed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot_rl.algorithms.dqn import DQN
from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.errors import ConfigError
from robot_rl.evaluate import act_with
from sim.commands.locomotion import digest
from sim.locomotion_logs import TrainingPlan, make_logs, normalised_score, train

LOGS = Path(__file__).parents[2] / "benchmarks" / "logs"
PLAN = TrainingPlan(env="Hopper-v5", steps=260, random_steps=150, eval_every=200, medium=1000.0, seed=3)


@pytest.fixture(scope="module")
def digests() -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for _ in range(2):
        trained = train(PLAN, lambda step, score: None)
        assert not trained.reached
        found.append(
            {q: digest(make_logs(PLAN, trained, q, 120)) for q in ("random", "medium-replay", "medium-expert")}
        )
    return found


def test_the_same_seed_makes_the_same_logs(digests: list[dict[str, str]]) -> None:
    assert digests[0] == digests[1]
    assert len(set(digests[0].values())) == 3


def test_logs_are_exactly_as_long_as_asked() -> None:
    trained = train(PLAN, lambda step, score: None)
    episodes = make_logs(PLAN, trained, "medium-expert", 101)
    assert sum(len(e) for e in episodes) == 101
    assert all(e.terminated != e.truncated for e in episodes)
    with pytest.raises(ConfigError, match="99999 were asked for"):
        make_logs(PLAN, trained, "medium-replay", 99_999)


def test_the_command_writes_logs_and_their_recipe(tmp_path: Path) -> None:
    words = ["locomotion", "--plan.env", "Hopper-v5", "--plan.steps", "200", "--plan.random-steps", "150"]
    assert main([*words, "--transitions", "100", "--out", str(tmp_path / "logs")]) == 0
    recipe = json.loads((tmp_path / "logs" / "recipe.json").read_text())
    for quality, log in recipe["logs"].items():
        dataset = load_dataset(tmp_path / "logs" / quality)
        assert dataset.total_steps == 100
        assert digest(list(dataset)) == log["sha256"]


def test_scores_are_d4rls() -> None:
    assert normalised_score("Hopper-v5", 3234.3) == pytest.approx(100.0)
    assert normalised_score("Hopper-v5", -20.272305) == pytest.approx(0.0)


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="Known: HalfCheetah-v5"):
        train(TrainingPlan(env="Ant-v5"), lambda step, score: None)


def test_random_logs_need_no_training_and_take_any_environment(tmp_path: Path) -> None:
    words = ["locomotion", "--plan.env", "CartPole-v1", "--qualities", "random", "--transitions", "90"]
    assert main([*words, "--out", str(tmp_path / "logs")]) == 0
    dataset = load_dataset(tmp_path / "logs" / "random")
    assert dataset.spec.control == "discrete"
    assert {float(a) for e in dataset for a in e.actions[:, 0]} == {0.0, 1.0}
    with pytest.raises(ConfigError, match="'medium' logs need a trained agent"):
        make_logs(PLAN, None, "medium", 10)


def test_a_discrete_task_gets_logs_by_a_dqn_whose_noise_are_random_choices() -> None:
    plan = TrainingPlan(env="CartPole-v1", steps=260, random_steps=150, eval_every=200, medium=1000.0, seed=3)
    trained = train(plan, lambda step, score: None)
    assert isinstance(trained.medium, DQN)
    greedy, wild = (make_logs(replace(plan, noise=noise), trained, "medium", 400) for noise in (0.0, 1.0))
    act = act_with(trained.medium.policy)
    for log, alike in ((greedy, True), (wild, False)):
        actions = np.concatenate([e.actions[:, 0] for e in log])
        wanted = np.array([act(obs.copy())[0] for e in log for obs in e.observations[:-1]])
        assert set(actions.tolist()) <= {0.0, 1.0}
        assert bool((actions == wanted).all()) == alike


@pytest.mark.parametrize("recipe", sorted(LOGS.glob("*/recipe.json")), ids=lambda f: f.parent.name)
def test_committed_logs_are_those_of_their_recipe(recipe: Path) -> None:
    stated = json.loads(recipe.read_text())["logs"]
    found = [folder for folder in recipe.parent.iterdir() if folder.is_dir()]
    assert found
    for folder in found:
        dataset = load_dataset(folder)
        assert dataset.total_steps == 10_000
        assert digest(list(dataset)) == stated[folder.name]["sha256"]
