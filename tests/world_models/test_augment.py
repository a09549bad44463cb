"""Batches from a world model: what each mode replaces, and that runs with one resume bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robot_rl.algorithms.latent_sac import LatentSAC, LatentSACConfig
from robot_rl.algorithms.td3_bc import TD3BC, TD3BCConfig
from robot_rl.checkpoint import load_agent
from robot_rl.data.dataset import Dataset
from robot_rl.data.mixture import Mixture
from robot_rl.data.replay import Batch, Replay
from robot_rl.data.stats import ObservationStats, observation_stats
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.online import OnlineConfig, OnlineLearner
from robot_rl.pretrain import PretrainConfig, pretrain
from robot_rl.run import read_metrics
from robot_rl.world_models.augment import AugmentConfig, Augmented, augmented
from robot_rl.world_models.ensemble import EnsembleConfig
from robot_rl.world_models.model import Guess, WorldModel
from robot_rl.world_models.store import load_model
from robot_rl.world_models.train import WorldModelConfig, train
from tests.world_models.made import drifting_episodes, drifting_spec

SMALL = EnsembleConfig(networks=2, elites=1, hidden=(8,), batch_size=32, epochs=2)
AGENT = TD3BCConfig(hidden=(8,), batch_size=8)


class Jump(WorldModel):
    """s' = s + 10, r = 7 standardised, ends where s_0 > 0, spread 1 below and 5 above s_1 = 0."""

    def __init__(self) -> None:
        still = ObservationStats(np.zeros(3, np.float32), np.ones(3, np.float32))
        super().__init__(drifting_spec(), still, None, 0, "cpu")
        self.error_slope.fill_(1.0)
        self.error_floor.zero_()
        self.levels.copy_(torch.linspace(0, 4, 101))
        self.error_rms.copy_(torch.tensor([0.0, 1.0, 3.0]))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def errors(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def guess(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> Guess:
        spread = torch.where(obs[:, 1:2] > 0, 5.0, 1.0).expand_as(obs)
        return Guess(obs + 10, torch.full((len(obs),), 7.0), (obs[:, 0] > 0).float(), spread)


def push(obs: Tensor, noise: Tensor) -> Tensor:
    return torch.full((len(obs), 2), 1.5)


def batch_of(mode: str, **more: object) -> tuple[Batch, Batch]:
    """A batch of four real and four generated transitions, split."""
    replay = Replay.of(drifting_spec(), drifting_episodes())
    source = Augmented(replay, Jump(), AugmentConfig(mode=mode, block=500, **more), push)
    batch = source.sample(400, torch.Generator().manual_seed(0))
    return Batch(*(c[:200] for c in batch)), Batch(*(c[200:] for c in batch))


def rows_of(batch: Batch) -> set[tuple[float, ...]]:
    return {tuple(row) for row in torch.cat([batch.obs, batch.action, batch.reward[:, None]], 1).tolist()}


KNOWN = Replay.of(drifting_spec(), drifting_episodes()).transitions()


def test_next_state_mode_replaces_the_next_state_alone() -> None:
    real, made = batch_of("next-state")
    assert rows_of(real) | rows_of(made) <= rows_of(KNOWN)
    assert torch.equal(made.next_obs, made.obs + 10)
    assert not torch.equal(real.next_obs, real.obs + 10)
    assert 0 < float((made.mask == 0).sum()) < 200  # the logged ends


def test_consistent_mode_takes_reward_and_end_from_the_model() -> None:
    _, made = batch_of("consistent")
    assert made.reward.unique().tolist() == [7.0]
    assert torch.equal(made.mask, (made.obs[:, 0] <= 0).float())


def test_an_end_counts_by_its_probability_unless_the_task_knows() -> None:
    class Unsure(Jump):
        def guess(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> Guess:
            return super().guess(obs, action, generator)._replace(terminated=torch.full((len(obs),), 0.3))

    replay = Replay.of(drifting_spec(), drifting_episodes())
    for mode in ("consistent", "rollout"):
        for ends in (None, lambda obs: (obs[:, 1] > 10).float()):
            cfg = AugmentConfig(mode=mode, block=500, gate=1.0, share=1.0)
            made = Augmented(replay, Unsure(), cfg, push, ends).sample(400, torch.Generator().manual_seed(0))
            made = Batch(*(column[(made.next_obs == made.obs + 10).all(1)] for column in made))
            wanted = torch.full((len(made.obs),), 0.7) if ends is None else (made.next_obs[:, 1] <= 10).float()
            assert len(made.obs) > 0
            assert torch.allclose(made.mask, wanted)


def test_noise_has_the_models_own_error_and_no_model_in_it() -> None:
    _real, made = batch_of("noise", reuse=0.5)
    assert rows_of(made) <= rows_of(KNOWN)
    exact = {tuple(row[:3]): row[3:] for row in torch.cat([KNOWN.obs, KNOWN.next_obs], 1).tolist()}
    noise = made.next_obs - torch.tensor([exact[tuple(row)] for row in made.obs.tolist()])
    assert noise[:, 0].abs().max() < 1e-6
    assert noise.std(0).tolist()[1:] == pytest.approx([1.0, 3.0], rel=0.2)


def test_rollouts_follow_the_policy_stop_at_ends_and_pass_the_gate() -> None:
    _, later = batch_of("rollout", horizon=3, gate=0.5)  # uncertainty at most 2: s_1 must not be above 0
    generated = (later.action == 1.5).all(1)
    made = Batch(*(column[generated] for column in later))
    assert 0 < len(made.obs) < len(later.obs)
    assert torch.equal(generated, later.real == 0)
    assert float(made.obs[:, 1].max()) <= 0
    ended = made.obs[:, 0] > 0
    assert torch.equal(made.mask, (~ended).float())
    assert float(made.obs[:, 0].max()) < 5  # after a jump by 10 the next state is past the gate


def test_a_gate_that_nothing_passes_leaves_real_transitions() -> None:
    model = Jump()
    model.levels.zero_()
    replay = Replay.of(drifting_spec(), drifting_episodes())
    source = Augmented(replay, model, AugmentConfig(mode="rollout"), push)
    batch = source.sample(50, torch.Generator().manual_seed(0))
    assert rows_of(batch) <= rows_of(KNOWN)
    assert len(batch.obs) == 50


def test_the_fewer_pass_the_gate_the_less_of_a_batch_is_generated() -> None:
    shares: dict[float, float] = {}
    for level in (0.5, 2.0, 1e9):
        model = Jump()
        model.levels.fill_(level)
        replay = Replay.of(drifting_spec(), drifting_episodes())
        source = Augmented(replay, model, AugmentConfig(mode="rollout", block=400), push)
        batch = source.sample(200, torch.Generator().manual_seed(0))
        assert source._block is not None
        passed = len(source._block.obs) / 400
        shares[level] = passed
        made = (batch.action == 1.5).all(1)  # logged actions are others
        assert int(made.sum()) == round(100 * passed)
        assert not made[: 200 - int(made.sum())].any()
    assert shares[0.5] == 0 < shares[2.0] < shares[1e9] == 1


def test_predictions_are_used_as_often_as_asked() -> None:
    model, calls = Jump(), []
    replay = Replay.of(drifting_spec(), drifting_episodes())
    step = model.step
    model.step = lambda *args: calls.append(1) or step(*args)  # type: ignore[method-assign]
    source = Augmented(replay, model, AugmentConfig(block=64, reuse=2.0), push)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):  # 32 generated rows a batch, 128 draws a block: four batches
        source.sample(64, generator)
    assert len(calls) == 3


def test_it_wraps_a_mixture_of_logged_and_new_data() -> None:
    replay = Replay.of(drifting_spec(), drifting_episodes())
    online = Replay(drifting_spec(), 100)
    source = Augmented(Mixture(replay, online, 0.5), Jump(), AugmentConfig(share=1.0), push)
    assert torch.equal((b := source.sample(8, torch.Generator())).next_obs, b.obs + 10)


@pytest.fixture
def model_run(dataset: Dataset, tmp_path: Path) -> Path:
    out = tmp_path / "model"
    train(WorldModelConfig(kind="ensemble", data=dataset.path, out=out, model=SMALL, device="cpu"), quiet=True)
    return out


def run_config(dataset: Dataset, model_run: Path, out: Path, steps: int, **more: object) -> PretrainConfig:
    config = PretrainConfig(
        algorithm="td3-bc", data=dataset.path, out=out, agent=AGENT, steps=steps, env="none",
        world_model=model_run, augment=AugmentConfig(mode="rollout", horizon=2, block=32, gate=1.0, force=True),
        checkpoint_every=3, log_every=1, device="cpu",
    )  # fmt: skip
    return replace(config, **more)


def test_resuming_with_a_world_model_equals_never_having_stopped(
    dataset: Dataset, model_run: Path, tmp_path: Path
) -> None:
    pretrain(run_config(dataset, model_run, tmp_path / "straight", 40), quiet=True)
    for steps in (17, 40):  # 17 is inside a block, 40 beyond the next one
        torch.manual_seed(steps)
        pretrain(run_config(dataset, model_run, tmp_path / "halves", steps, resume=steps == 40), quiet=True)
    one, two = load_agent(tmp_path / "straight")[0], load_agent(tmp_path / "halves")[0]
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key]), key
    assert read_metrics(tmp_path / "straight") == read_metrics(tmp_path / "halves")


def test_loading_a_model_leaves_the_generator_of_dropout_where_it_was(dataset: Dataset, model_run: Path) -> None:
    agent = TD3BC(AGENT, dataset.spec, observation_stats(dataset))
    before = torch.get_rng_state()
    augmented(Replay.of(dataset.spec, dataset), model_run, AugmentConfig(force=True), agent)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_learner_on_sequences_is_refused_ahead_of_the_warm_up(dataset: Dataset, model_run: Path) -> None:
    agent = LatentSAC(LatentSACConfig(hidden=(8,)), dataset.spec, observation_stats(dataset))
    config = OnlineConfig(world_model=model_run, augment=AugmentConfig(force=True))
    with pytest.raises(ConfigError, match="leave out --world-model"):
        OnlineLearner(agent, None, config, seed=0)


def test_another_model_or_none_is_refused_when_resuming(dataset: Dataset, model_run: Path, tmp_path: Path) -> None:
    pretrain(run_config(dataset, model_run, tmp_path / "run", 2), quiet=True)
    other = tmp_path / "other"
    config = WorldModelConfig(kind="ensemble", data=dataset.path, out=other, model=SMALL, seed=1, device="cpu")
    train(config, quiet=True)
    with pytest.raises(CheckpointError, match="another world model"):
        pretrain(run_config(dataset, other, tmp_path / "run", 4, resume=True), quiet=True)
    plain = run_config(dataset, model_run, tmp_path / "run", 4, resume=True)
    with pytest.raises(CheckpointError, match="Resume it with the same --world-model"):
        pretrain(replace(plain, world_model=None, augment=AugmentConfig()), quiet=True)
    longer = replace(plain, augment=replace(plain.augment, horizon=3, force=False))
    with pytest.raises(CheckpointError, match=r"other options:\n  - --augment\.horizon is 3 here, 2 in the run\nGo on"):
        pretrain(longer, quiet=True)


def test_a_model_that_knows_less_than_a_naive_predictor_is_refused(
    dataset: Dataset, model_run: Path, tmp_path: Path
) -> None:
    trained, _ = load_model(model_run)
    bad = replace(trained, error=0.5, naive_error=0.4, naive="linear")
    with pytest.raises(ConfigError, match=r"errs by 0\.500 .*'linear' by 0\.400.*--augment\.force"):
        bad.require_usable(force=False)
    assert bad.require_usable(force=True) is bad.module
    with pytest.raises(CheckpointError, match=r"not trained to its end.*--resume"):
        replace(trained, error=None).require_usable(force=True)


def test_options_without_a_model_and_rewards_it_does_not_know_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    config = run_config(dataset, tmp_path, tmp_path / "run", 2)
    with pytest.raises(ConfigError, match="--world-model RUN"):
        replace(config, world_model=None)
    with pytest.raises(ConfigError, match=r"--augment\.mode rollout takes rewards.*--reward is goal"):
        replace(config, reward="goal")
    with pytest.raises(ConfigError, match="horizon is 4"):
        AugmentConfig(horizon=4)


def test_online_the_model_is_refitted_and_the_learner_resumes_with_it(
    dataset: Dataset, model_run: Path, tmp_path: Path
) -> None:
    episodes = drifting_episodes(4)
    config = OnlineConfig(
        warmup=0, world_model=model_run, augment=AugmentConfig(block=32, force=True), refit_every=5, refit_epochs=1
    )

    def learner() -> OnlineLearner:
        agent = TD3BC(AGENT, dataset.spec, observation_stats(episodes))
        return OnlineLearner(agent, Replay.of(dataset.spec, episodes), config, seed=0)

    one = learner()
    before = one._augmented.model.digest
    rows = list(drifting_episodes(2, seed=5))
    for episode in rows:
        one.online.add(episode)
    one.interactions = 7
    one.update()
    assert one._augmented.refits == 1
    assert one._augmented.model.digest != before
    two = learner()
    state = {name: value.clone() for name, value in one.state().items()}
    for episode in rows:
        two.online.add(episode)
    two._sampler.set_state(state["sampler"])
    two._augmented.load_state(state)
    two.agent.load_state_dict(one.agent.state_dict())
    two.agent.load_training_state({k: v.clone() for k, v in one.agent.training_state().items()})
    two.interactions = 7
    for _ in range(3):
        assert torch.equal(one.update()["critic/loss"], two.update()["critic/loss"])


def test_a_long_warm_up_is_followed_by_one_refit_and_one_running_episode_by_none(
    dataset: Dataset, model_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        "robot_rl.world_models.augment.refit", lambda _model, episodes, epochs: seen.append(len(episodes))
    )
    agent = TD3BC(AGENT, dataset.spec, observation_stats(dataset))
    augment = AugmentConfig(block=32, force=True)
    config = OnlineConfig(warmup=23, world_model=model_run, augment=augment, refit_every=5)
    learner = OnlineLearner(agent, None, config, seed=0)
    first, second = drifting_episodes(2, seed=5)
    learner.online.add(first)
    learner.interactions = 23
    learner.update()
    assert seen == []  # nothing could be held out
    learner.online.add(second)
    for _ in range(3):
        learner.update()
    assert seen == [2]
    learner.interactions = 25
    learner.update()
    assert seen == [2, 2]
