"""Both models learn known dynamics, say how sure they are, and equal their equations."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from robot_rl.data.episode import Episode
from robot_rl.data.replay import Batch, Replay
from robot_rl.data.stats import ObservationStats, observation_stats
from robot_rl.errors import ConfigError, DataError
from robot_rl.spec import Entry, Spec, vector
from robot_rl.world_models.ensemble import EnsembleConfig, EnsembleModel
from robot_rl.world_models.fit import Fitter, calibrate, line, refit
from robot_rl.world_models.holdout import Holdout
from robot_rl.world_models.judge import judge
from robot_rl.world_models.model import Targets, WorldModel
from robot_rl.world_models.naive import linear
from robot_rl.world_models.registry import build_model
from robot_rl.world_models.report import write_report
from robot_rl.world_models.vae import VAEConfig, VAEModel
from tests.world_models.made import drifting_episodes, drifting_spec

ENSEMBLE = EnsembleConfig(networks=3, elites=2, hidden=(32, 32), lr=3e-3, batch_size=64, patience=20)
VAE = VAEConfig(
    latent=6, encoder_hidden=(64,), transition_hidden=(64,), decoder_hidden=(64,), head_hidden=(32,),
    kl_weight=1e-4, lr=3e-3, batch_size=64, patience=20,
)  # fmt: skip


def fitted(cfg: EnsembleConfig | VAEConfig, epochs: int) -> tuple[WorldModel, Fitter]:
    torch.manual_seed(0)
    spec = drifting_spec()
    training, held_out = drifting_episodes(80), drifting_episodes(20, seed=1)
    stats = observation_stats(training)
    rows = Replay.of(spec, training).transitions()
    model = build_model(cfg, spec, stats, Targets.of(rows, stats))
    fitter = Fitter(model, rows, Replay.of(spec, held_out).transitions(), batch_size=cfg.batch_size, patience=20)
    for _ in range(epochs):
        fitter.epoch()
    fitter.finish()
    return model, fitter


@pytest.mark.parametrize(("cfg", "epochs", "bound"), [(ENSEMBLE, 40, 0.6), (VAE, 60, 0.8)])
def test_a_model_learns_known_dynamics(cfg: EnsembleConfig | VAEConfig, epochs: int, bound: float) -> None:
    model, _ = fitted(cfg, epochs)
    verdict = judge(model, drifting_episodes(40), drifting_episodes(10, seed=2))
    assert verdict.error("model") < bound * verdict.error("last state")
    assert verdict.open_loop["model"][2] < verdict.open_loop["last state"][2]
    assert verdict.reward["model"] < 0.5 * verdict.reward["mean"]
    assert verdict.horizons[0] == 1
    assert verdict.open_loop["last state"][0] == pytest.approx(verdict.error("last state"), rel=0.1)


def test_the_ensemble_beats_linear_least_squares_and_knows_where_it_errs() -> None:
    model, _ = fitted(ENSEMBLE, 60)
    verdict = judge(model, drifting_episodes(40), drifting_episodes(10, seed=2))
    assert verdict.usable
    assert 0.8 < verdict.coverage["90%"] <= 1.0
    known = model.step(torch.zeros(64, 3), torch.zeros(64, 2), torch.Generator().manual_seed(0))
    strange = model.step(torch.full((64, 3), 30.0), torch.zeros(64, 2), torch.Generator().manual_seed(0))
    assert strange.uncertainty.mean() > 5 * known.uncertainty.mean()


def test_termination_follows_the_predicted_state() -> None:
    model, _ = fitted(VAE, 60)
    inside, outside = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.85, 0.0, 0.0]])
    push, draws = torch.tensor([[2.0, 0.0]]), torch.Generator().manual_seed(0)
    calm = model.step(inside.expand(200, 3), -push.expand(200, 2), draws).terminated.mean()
    over = model.step(outside.expand(200, 3), push.expand(200, 2), draws).terminated.mean()
    assert over > calm + 0.3


def test_vae_loss_is_the_published_one() -> None:
    torch.manual_seed(0)
    spec = drifting_spec()
    model = VAEModel(VAEConfig(), spec, ObservationStats(np.zeros(3, np.float32), np.ones(3, np.float32)), seed=5)
    model.plan(3)
    assert [m.out_features for m in model.encoder if hasattr(m, "out_features")] == [500, 500, 500, 24]
    assert [m.out_features for m in model.transition if hasattr(m, "out_features")] == [300, 600, 300, 12]
    assert [m.out_features for m in model.decoder if hasattr(m, "out_features")] == [500, 500, 500, 3]
    g = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    batch = Batch(draw(8, 3), draw(8, 2), draw(8), torch.tensor([1.0] * 7 + [0.0]), draw(8, 3), torch.ones(8))
    noise = torch.Generator().manual_seed(5)
    loss, metrics = model.loss(batch)
    with torch.no_grad():
        mean, log_var = model.encoder(batch.obs).chunk(2, -1)
        z = mean + (log_var / 2).exp() * torch.randn(8, 12, generator=noise)
        mean_next, log_var_next = model.encoder(batch.next_obs).chunk(2, -1)
        z_next = mean_next + (log_var_next / 2).exp() * torch.randn(8, 12, generator=noise)
        ahead = model.transition(torch.cat([z, batch.action], -1))
        k = slice(0, 7)  # the last row ends the task and is left out
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(-1)
        published = (
            7
            / 8
            * (
                F.mse_loss(model.decoder(z)[k], batch.obs[k])
                + kl[k].mean() / 3
                + 10 * F.mse_loss(model.decoder(ahead)[k], batch.next_obs[k])
                + F.mse_loss(ahead[k], z_next[k])
            )
        )
    heads = metrics["train/reward"] + metrics["train/termination"]
    assert (loss - heads).item() == pytest.approx(published.item(), rel=1e-4)


def test_the_heads_never_move_the_published_part() -> None:
    spec = drifting_spec()
    model = VAEModel(VAE, spec, ObservationStats(np.zeros(3, np.float32), np.ones(3, np.float32)))
    rows = Replay.of(spec, drifting_episodes(2)).transitions()
    reward, ended = model._judge(rows.obs, rows.action, rows.next_obs)
    (reward.sum() + ended.sum()).backward()
    parts = (model.encoder, model.transition, model.decoder)
    assert all(p.grad is None for part in parts for p in part.parameters())


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_ensemble_loss_is_the_gaussian_likelihood_weighed_by_the_variance(beta: float) -> None:
    spec = drifting_spec()
    cfg = EnsembleConfig(networks=2, elites=1, hidden=(8,), bound_weight=0.0, beta=beta)
    model = EnsembleModel(cfg, spec, ObservationStats(np.zeros(3, np.float32), np.ones(3, np.float32)))
    rows = Replay.of(spec, drifting_episodes(1)).transitions()
    both = Batch(*(c.expand(2, *c.shape) for c in rows))
    loss, _ = model.loss(both)
    with torch.no_grad():
        mean, log_var, ended = model._forward(torch.cat([both.obs, both.action], -1), None)
    target = torch.cat([rows.next_obs - rows.obs, rows.reward[:, None]], -1)
    normal = torch.distributions.Normal(mean, (log_var / 2).exp())
    minus_two_log = log_var.exp() ** beta * (-2 * normal.log_prob(target) - math.log(2 * math.pi))
    bce = F.binary_cross_entropy(ended.sigmoid(), (1 - rows.mask).expand(2, -1), reduction="none")
    assert loss.item() == pytest.approx((minus_two_log.mean((1, 2)).sum() + bce.mean(1).sum()).item(), rel=1e-4)


def test_rows_weigh_as_they_do_without_their_weight_being_learned() -> None:
    model, _ = fitted(replace(ENSEMBLE, beta=1.0, bound_weight=0.0), 0)
    assert isinstance(model, EnsembleModel)
    rows = Replay.of(drifting_spec(), drifting_episodes(1)).transitions()
    both = Batch(*(c.expand(3, *c.shape) for c in rows))
    model.loss(both)[0].backward()
    # With beta 1 the gradient by a mean is that of the squared error, whatever the variance.
    with torch.no_grad():
        mean, _, _ = model._forward(torch.cat([both.obs, both.action], -1), None)
    target = torch.cat([(rows.next_obs - rows.obs) / model.change, rows.reward[:, None]], -1)
    wanted = 2 * (mean - target).mean(1) / model.outputs
    last = dict(model.named_parameters())[f"layers.{len(model.layers) - 1}.bias"].grad
    assert last is not None
    assert torch.allclose(last[:, 0, : model.outputs], wanted, atol=1e-5)


def test_the_mean_of_the_elites_errs_less_than_a_draw() -> None:
    errors: dict[str, float] = {}
    choices: tuple[Literal["mean", "draw"], ...] = ("mean", "draw")
    for predict in choices:
        model, fitter = fitted(replace(ENSEMBLE, predict=predict), 5)
        fitter.finish()
        rows = fitter.held_out
        found = [model.guess(rows.obs, rows.action, torch.Generator().manual_seed(k)) for k in (0, 1)]
        assert torch.equal(found[0].next_obs, found[1].next_obs) == (predict == "mean")
        assert torch.equal(found[0].spread, found[1].spread)
        errors[predict] = (found[0].next_obs - rows.next_obs).square().mean().item()
    assert errors["mean"] < errors["draw"]


def test_a_large_block_is_predicted_as_its_parts_are() -> None:
    torch.manual_seed(0)
    model = EnsembleModel(ENSEMBLE, drifting_spec(), observation_stats(drifting_episodes(2)))
    generator = torch.Generator().manual_seed(0)
    obs, action = torch.randn(2500, 3, generator=generator), torch.randn(2500, 2, generator=generator)
    whole = model.step(obs, action, generator)
    parts = [model.step(*rows, generator) for rows in zip(obs.split(600), action.split(600), strict=True)]
    for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(column, torch.cat(pieces))


def test_elites_are_those_with_the_lowest_held_out_error() -> None:
    model = EnsembleModel(EnsembleConfig(), drifting_spec(), observation_stats(drifting_episodes(2)))
    model.settle(torch.tensor([3.0, 1.0, 9.0, 2.0, 8.0, 4.0, 5.0]))
    assert model.elites.tolist() == [0, 1, 3, 5, 6]


def test_members_keep_their_own_best_weights() -> None:
    model, fitter = fitted(ENSEMBLE, 0)
    before = {k: v.clone() for k, v in fitter.best.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    fitter._keep(torch.tensor([True, False, True]))
    for name, kept in fitter.best.items():
        assert torch.equal(kept[1], before[name][1])
        assert torch.allclose(kept[0], before[name][0] + 1)


def test_passes_in_pieces_give_the_batchs_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    grads = []
    for rows_a_pass in (64, 7):
        monkeypatch.setattr("robot_rl.world_models.fit.MICRO_BATCH", rows_a_pass)
        model, fitter = fitted(ENSEMBLE, 0)
        monkeypatch.setattr(model.optimiser, "step", lambda: None)
        fitter._descend(torch.arange(64).expand(3, 64))
        grads.append(model.layers[0].weight.grad)
    assert torch.allclose(grads[0], grads[1], atol=1e-6)


def test_refitting_on_new_data_mends_the_model_there() -> None:
    model, _ = fitted(ENSEMBLE, 20)
    spec, far = drifting_spec(), drifting_episodes(20, seed=9)
    shifted = [type(e)(observations=e.observations + 3, actions=e.actions, rewards=e.rewards) for e in far]
    rows = Replay.of(spec, shifted).transitions()
    before = model.errors(model.normalised(rows)).mean()
    refit(model, [*drifting_episodes(40), *shifted], epochs=10)
    assert model.errors(model.normalised(rows)).mean() < 0.5 * before


def test_linear_least_squares_finds_a_linear_robot() -> None:
    g = torch.Generator().manual_seed(0)
    obs, action = torch.randn(200, 2, generator=g), torch.randn(200, 1, generator=g)
    after = obs @ torch.tensor([[0.9, 0.1], [0.0, 1.1]]) + action @ torch.tensor([[0.5, -0.5]]) + 0.25
    predict = linear(Batch(obs, action, obs[:, 0], obs[:, 0], after, obs[:, 0]))
    assert torch.allclose(predict(obs, action), after, atol=2e-3)


def test_calibration_line_is_least_squares_and_never_negative() -> None:
    x = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 2.0], [2.0, 2.0, 3.0]])
    y = torch.tensor([[1.0, 3.0, 0.0], [3.0, 2.0, 1.0], [5.0, 1.0, 2.0]])
    floor, slope = line(x, y)
    assert slope.tolist() == pytest.approx([2.0, 0.0, 0.5])  # the last: y = x - 1 is bent to go through 0
    assert floor.tolist() == pytest.approx([1.0, 2.0, 0.0])


def test_the_gate_is_a_quantile_of_held_out_uncertainty() -> None:
    model, fitter = fitted(ENSEMBLE, 5)
    calibrate(model, fitter.held_out_rows)
    found = model.step(fitter.held_out_rows.obs, fitter.held_out_rows.action, torch.Generator().manual_seed(3))
    share = (found.uncertainty <= model.gate(0.7)).float().mean().item()
    assert share == pytest.approx(0.7, abs=0.03)


def test_an_index_is_shown_to_the_model_as_one_hot() -> None:
    push = Entry("action", ("index",), "index", (0.0,), (2.0,))
    spec = Spec((vector("observation", 3),), (push,), control="discrete")
    model = EnsembleModel(EnsembleConfig(), spec, observation_stats(drifting_episodes(2)))
    assert model.encode(torch.tensor([[0.0], [2.0]])).tolist() == [[1, 0, 0], [0, 0, 1]]
    found = model.step(torch.zeros(2, 3), torch.tensor([[0.0], [2.0]]), torch.Generator())
    assert found.next_obs.shape == (2, 3)


def test_held_out_episodes_are_whole_and_apart() -> None:
    episodes = drifting_episodes(400)
    training, held_out = Holdout(0.2).split(episodes)
    assert len(training) + len(held_out) == 400
    assert 60 < len(held_out) < 100
    assert not {e.source for e in training} & {e.source for e in held_out}
    with pytest.raises(DataError, match="Record at least 2"):
        Holdout(0.2).split(episodes[:1])


def test_an_episode_that_was_trained_on_is_never_held_out_later() -> None:
    episodes = drifting_episodes(60)
    for seed in range(5):
        rule = Holdout(0.1, seed)
        training = {e.source for e in rule.split(episodes[:4])[0]}
        for count in range(5, 61):
            later, held_out = rule.split(episodes[:count])
            assert not training & {e.source for e in held_out}
            training = {e.source for e in later}
        cut = [type(e)(observations=e.observations[:4], actions=e.actions[:3], rewards=e.rewards[:3], source=e.source)
               for e in episodes]  # fmt: skip
        assert [e.source for e in rule.split(cut)[1]] == [e.source for e in rule.split(episodes)[1]]


def without_last(episode: Episode) -> Episode:
    """As a log shows it that lacks the last observation."""
    observations = np.concatenate([episode.observations[:-1], episode.observations[-2:-1]])
    return replace(episode, observations=observations, final_observed=False)


def test_a_step_whose_outcome_is_not_logged_is_no_window(tmp_path: Path) -> None:
    model, _ = fitted(ENSEMBLE, 1)
    held_out = [without_last(e) for e in drifting_episodes(30, steps=20, seed=3) if len(e) == 20]
    verdict = judge(model, drifting_episodes(4), held_out)
    assert verdict.horizons == (1, 2, 3, 5, 10)  # 20 steps, of which 19 are known
    assert verdict.transitions == 19 * len(held_out)
    write_report(tmp_path, model, verdict, held_out, title="drifting", epochs=1)
    assert (tmp_path / "rollout.png").exists()


def test_an_episode_without_a_known_outcome_is_on_neither_side() -> None:
    episodes = [*drifting_episodes(3), *(without_last(e) for e in drifting_episodes(40, steps=1, seed=4))]
    training, held_out = Holdout(0.5).split(episodes)
    assert len(training) + len(held_out) == 3
    with pytest.raises(DataError, match="there are 0"):
        Holdout(0.5).split(episodes[3:])


def test_a_single_held_out_transition_leaves_numbers_only(tmp_path: Path) -> None:
    model, _ = fitted(ENSEMBLE, 1)
    held_out = drifting_episodes(1, steps=1, seed=5)
    verdict = judge(model, drifting_episodes(4), held_out)
    assert verdict.rank_correlation == 0.0
    write_report(tmp_path, model, verdict, held_out, title="drifting", epochs=1)
    assert "NaN" not in (tmp_path / "report.json").read_text()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="elites is 9 of 7 networks"):
        EnsembleConfig(elites=9)
    with pytest.raises(ConfigError, match="must lie in"):
        EnsembleConfig(beta=2.0)
