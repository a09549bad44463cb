"""Interventions: whose action is executed, how often, and that such steps are learned from on both sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robot_rl import experts
from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.sac import SACConfig
from robot_rl.collect import Collector
from robot_rl.data.mixture import Mixture, Pool
from robot_rl.data.replay import Replay
from robot_rl.data.stats import observation_stats
from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError, EnvError
from robot_rl.finetune import finetune
from robot_rl.intervene import Intervened, ScriptedPilot
from robot_rl.online import OnlineConfig, OnlineLearner
from robot_rl.online_run import FinetuneConfig
from robot_rl.spec import Array, Spec
from tests.learning.made import make_episodes, make_spec
from tests.learning.test_finetune import assert_same_run

ENV = "Pendulum-v1"
HIS = np.array([1.75], np.float32)


class Always:
    """An expert who knows one action."""

    def reset(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def act(self, obs: Array) -> Array:
        return HIS.copy()


def maker(_spec: Spec, _noise: float, _pause: float) -> Always:
    return Always()


@pytest.fixture
def expert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "known_experts", lambda: {ENV: maker})


def taken(pilot: ScriptedPilot, *, episodes: int, length: int, first: int = 0) -> np.ndarray:
    """Where the pilot commanded, (episodes, length)."""
    found = np.zeros((episodes, length), bool)
    for i in range(episodes):
        pilot.begin(np.zeros(3, np.float32), first + i)
        found[i] = [pilot.command(np.zeros(3, np.float32), HIS) is not None for _ in range(length)]
    return found


def test_the_share_holds_from_the_first_step_of_an_episode_on() -> None:
    found = taken(ScriptedPilot(Always(), share=0.2, steps=10), episodes=3000, length=40)
    # 3000 episodes: the standard error of one step's share is 0.0073
    np.testing.assert_allclose(found.mean(0), 0.2, atol=0.037)
    assert found.mean() == pytest.approx(0.2, abs=0.012)


def test_takeovers_last_as_long_as_was_asked() -> None:
    found = taken(ScriptedPilot(Always(), share=0.05, steps=7), episodes=1, length=5000)[0]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found.astype(int), [0]])))
    lengths = (edges[1::2] - edges[::2])[1:-1]  # the first and the last may be cut
    assert len(lengths) > 10
    assert (lengths % 7 == 0).all()  # two may follow each other at once
    assert np.median(lengths) == 7


def test_the_share_falls_to_nothing_and_the_seed_fixes_the_rest() -> None:
    falling = taken(ScriptedPilot(Always(), share=0.5, until=2000, steps=5), episodes=40, length=100)
    assert falling[:10].mean() == pytest.approx(0.375, abs=0.12)  # the mean of 0.5 and 0.25
    assert not falling[21:].any()
    later = ScriptedPilot(Always(), share=0.5, until=2000, steps=5)
    later.interactions = 1000
    np.testing.assert_array_equal(taken(later, episodes=10, length=100, first=10), falling[10:20])


@pytest.mark.parametrize(("share", "whole"), [(0.0, False), (1.0, True)])
def test_the_ends_of_the_range(share: float, whole: bool) -> None:
    assert (taken(ScriptedPilot(Always(), share=share), episodes=5, length=30) == whole).all()


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"share": 0.1, "until": -1}, {"share": 0.1, "steps": 0}])
def test_impossible_takeovers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--intervene"):
        ScriptedPilot(Always(), **wrong)


def test_the_persons_action_is_executed_and_marked() -> None:
    env = make_env(ENV, max_episode_steps=20)
    pilot = ScriptedPilot(Always(), share=0.5, steps=3)
    collector = Collector(Intervened(env, pilot), env_spec(env), seed=4)
    rows = [collector.step(lambda _obs, _noise: np.array([-0.5], np.float32), 1)[0].copy() for _ in range(60)]
    found = np.concatenate(rows)
    marked = found["intervention"] == 1
    assert 5 < marked.sum() < 55
    assert (found["action"][marked] == HIS).all()
    assert (found["action"][~marked] == np.float32(-0.5)).all()
    plain, shown = make_env(ENV), found[found["starts"].argmax()]  # replaying what was stored leads where it says
    obs, _ = plain.reset(seed=4)
    np.testing.assert_array_equal(obs, shown["obs"])
    np.testing.assert_array_equal(plain.step(shown["action"])[0], shown["next_obs"])


def test_what_a_supervisor_executed_comes_before_what_the_person_asked() -> None:
    class Clamps(Intervened):
        def step(self, action: Array) -> Any:
            obs, reward, terminated, truncated, info = self.env.step(action / 2)
            return obs, reward, terminated, truncated, info | {"executed_action": action / 2}

    env = make_env(ENV)
    outer = Intervened(Clamps(env, ScriptedPilot(Always(), share=0.0)), ScriptedPilot(Always(), share=1.0))
    rows, _ = Collector(outer, env_spec(env), seed=0).step(lambda _obs, _noise: np.zeros(1, np.float32), 1)
    assert (rows["action"][0], rows["intervention"][0]) == (HIS / 2, 1)


# Learning


def rows(count: int, every: int) -> Rows:
    found = np.zeros(count, transition_dtype(5, 2))
    found["obs"], found["next_obs"] = np.random.default_rng(1).normal(size=(2, count, 5))
    found["reward"] = 100 + np.arange(count)
    found["intervention"][::every] = 1
    return found


def learner(offline: Replay | None, **more: Any) -> OnlineLearner:
    cfg = SACConfig(hidden=(8,), batch_size=16, critics=2)
    agent = build_agent(cfg, make_spec(), observation_stats(make_episodes()))
    return OnlineLearner(agent, offline, OnlineConfig(warmup=1, **more), seed=0)


def test_intervened_steps_are_in_both_halves_of_a_batch() -> None:
    logged = Replay.of(make_spec(), make_episodes())
    one = learner(logged)
    one.take(rows(40, every=4))
    assert (len(one.online), len(one.corrections)) == (40, 10)
    generator, offline_half, online_half = torch.Generator().manual_seed(0), [], []
    for _ in range(400):
        reward = one._source.sample(16, generator).reward
        offline_half.append(reward[:8])
        online_half.append(reward[8:])
    drawn, own = torch.cat(offline_half), torch.cat(online_half)
    corrected = drawn[drawn >= 100] - 100
    assert set(corrected.tolist()) == set(range(0, 40, 4))
    share = 10 / (10 + len(logged))
    assert len(corrected) / len(drawn) == pytest.approx(share, abs=4 * (share / len(drawn)) ** 0.5)
    assert set((own - 100).tolist()) == set(range(40))


def test_without_interventions_batches_are_as_they_were() -> None:
    logged, online = Replay.of(make_spec(), make_episodes()), Replay(make_spec(), 100)
    online.extend(rows(40, every=100)[1:])
    pooled = Mixture(Pool(logged, Replay(make_spec(), 10)), online, 0.5)
    for source in (Mixture(logged, online, 0.5), pooled):
        first = source.sample(32, torch.Generator().manual_seed(7))
        again = Mixture(logged, online, 0.5).sample(32, torch.Generator().manual_seed(7))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_without_logs_the_interventions_are_the_demonstrations() -> None:
    one = learner(None)
    one.take(rows(39, every=100)[1:])
    assert (one._source.sample(16, torch.Generator()).reward > 100).all()
    one.take(rows(1, every=1))
    assert (one._source.sample(16, torch.Generator()).reward[:8] == 100).all()


def test_a_checkpoint_brings_the_interventions_back() -> None:
    logged = Replay.of(make_spec(), make_episodes())
    one, two = learner(logged), learner(logged)
    found = rows(40, every=4)
    for start in range(0, 40, 8):
        one.take(found[start : start + 8])
    two.load_state(one.state(), found)
    assert len(two.corrections) == 10
    assert all(torch.equal(a, b) for a, b in zip(*(x._source.sample(64, x._sampler) for x in (one, two)), strict=True))


@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(1, 12), max_size=6))
def test_a_ring_filled_at_once_lies_as_if_filled_one_by_one(capacity: int, sizes: list[int]) -> None:
    found = rows(sum(sizes) or 1, every=3)
    at_once, one_by_one = Replay(make_spec(), capacity), Replay(make_spec(), capacity)
    start = 0
    for size in sizes or [1]:
        at_once.extend(found[start : start + size])
        start += size
    for i in range(len(found)):
        one_by_one.extend(found[i : i + 1])
    assert torch.equal(at_once._rows, one_by_one._rows)
    assert at_once._next == one_by_one._next


def config(out: Path, **more: Any) -> FinetuneConfig:
    cfg = SACConfig(hidden=(16,), batch_size=8, critics=2)
    settings: dict[str, Any] = {
        "algorithm": "sac", "out": out, "agent": cfg, "env": ENV, "episode_steps": 15, "steps": 60, "warmup": 20,
        "eval_every": 30, "eval_episodes": 1, "checkpoint_every": 15, "log_every": 10, "device": "cpu", "seed": 3,
        "intervene_share": 0.4, "intervene_until": 100, "intervene_steps": 4,
    }  # fmt: skip
    return FinetuneConfig(**(settings | more))


@pytest.mark.usefixtures("expert")
def test_resuming_with_interventions_equals_never_having_stopped(tmp_path: Path) -> None:
    finetune(config(tmp_path / "straight"), quiet=True)
    finetune(config(tmp_path / "halves", steps=30), quiet=True)
    torch.manual_seed(99)
    finetune(config(tmp_path / "halves", resume=True), quiet=True)
    assert_same_run(tmp_path / "straight", tmp_path / "halves")


def test_an_environment_without_an_expert_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"no scripted expert for 'Pendulum-v1'.*"):
        finetune(config(tmp_path / "run"), quiet=True)
