"""An online run with all it can have at once: killed twice and resumed, it equals the uninterrupted run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.algorithms.sac import SACConfig
from robot_rl.collect import Collector
from robot_rl.data.dataset import Dataset, write_dataset
from robot_rl.data.episode import Episode
from robot_rl.envs import env_spec, make_env
from robot_rl.finetune import finetune
from robot_rl.online_run import FinetuneConfig
from robot_rl.world_models.augment import AugmentConfig
from robot_rl.world_models.ensemble import EnsembleConfig
from robot_rl.world_models.train import WorldModelConfig, train
from tests.learning.test_finetune import assert_same_run

ENV = "VirtualArm-v1"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    env, rng = make_env(ENV, max_episode_steps=15), np.random.default_rng(0)
    spec, episodes = env_spec(env), list[Episode]()
    for seed in range(6):
        observations, actions, rewards = [env.reset(seed=seed)[0]], list[Any](), list[float]()
        for _ in range(15):
            moved = observations[-1][: spec.action_dim] + rng.normal(0, 0.02, spec.action_dim)
            actions.append(np.clip(moved, spec.action_low, spec.action_high).astype(np.float32))
            obs, reward, *_ = env.step(actions[-1])
            observations.append(obs)
            rewards.append(float(reward))
        columns = (np.stack(observations).astype(np.float32), np.stack(actions), np.array(rewards, np.float32))
        episodes.append(Episode(observations=columns[0], actions=columns[1], rewards=columns[2]))
    return write_dataset(tmp_path_factory.mktemp("logs") / "arm", spec, episodes, origin="made")


@pytest.fixture(scope="module")
def config(logs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    out = tmp_path_factory.mktemp("model") / "run"
    small = EnsembleConfig(networks=3, elites=2, hidden=(8,), batch_size=64, epochs=3)
    train(WorldModelConfig(kind="ensemble", data=logs.path, out=out, model=small, device="cpu"), quiet=True)
    return FinetuneConfig(
        algorithm="sac", out=Path(), data=logs.path, env=ENV, episode_steps=15, reward="progress", device="cpu", seed=3,
        agent=SACConfig(hidden=(16,), batch_size=8, critics=2, bc_weight=0.5), bc_decay=70, utd=0.5, offline_share=0.3,
        steps=90, warmup=20, critic_warmup=5, eval_every=30, eval_episodes=1, checkpoint_every=15, log_every=10,
        intervene_share=0.4, intervene_until=100, intervene_steps=4, hindsight=0.4, noise_memory=0.6, capacity=50,
        world_model=out, augment=AugmentConfig(block=32, force=True), refit_every=40, refit_epochs=1,
    )  # fmt: skip


def killed_after(steps: int, config: FinetuneConfig, patch: Callable[..., None]) -> None:
    real, done = Collector.step, [0]

    def step(self: Collector, *words: Any) -> Any:
        done[0] += 1
        if done[0] == steps:
            raise RuntimeError("killed")
        return real(self, *words)

    patch(Collector, "step", step)
    with pytest.raises(RuntimeError, match="killed"):
        finetune(config, quiet=True)
    patch(Collector, "step", real)


@pytest.mark.parametrize(("share", "utd"), [(0.3, 0.5), (0.0, 2.0)])
def test_killed_and_resumed_equals_uninterrupted_with_everything_on(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, utd: float
) -> None:
    config = replace(config, offline_share=share, utd=utd)
    finetune(replace(config, out=tmp_path / "straight"), quiet=True)
    cut = replace(config, out=tmp_path / "cut")
    killed_after(58, cut, monkeypatch.setattr)
    torch.manual_seed(99)
    killed_after(20, replace(cut, resume=True), monkeypatch.setattr)
    finetune(replace(cut, resume=True), quiet=True)
    assert_same_run(tmp_path / "straight", tmp_path / "cut")
