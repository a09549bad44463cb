"""The recurrent model: equations against hand-worked numbers, and that it learns what memory is for."""

import math

import pytest
import torch

from robot_rl.data.sequences import Sequences
from robot_rl.errors import ConfigError
from robot_rl.latent.model import LatentModel, LatentModelConfig, symexp, symlog
from robot_rl.latent.rssm import RSSM, Gaussian, RSSMConfig, balanced_kl

SMALL = LatentModelConfig(deter=24, stoch=6, hidden=24, embed=24, layers=(32,))


def test_balanced_divergence_of_two_normals():
    q = Gaussian(torch.zeros(1, 1, requires_grad=True), torch.ones(1, 1))
    p = Gaussian(torch.ones(1, 1, requires_grad=True), torch.full((1, 1), 2.0))
    loss, nats = balanced_kl(q, p, balance=0.8, free=0.0)
    worked = math.log(2.0) + (1.0 + 1.0) / 8.0 - 0.5  # KL(N(0,1) || N(1,2))
    assert float(nats) == pytest.approx(worked)
    assert float(loss.detach()) == pytest.approx(worked)
    loss.sum().backward()
    # d KL / d mu_p = (mu_p - mu_q) / sigma_p^2 = 1/4, and the opposite for mu_q
    assert float(p.mean.grad) == pytest.approx(0.8 / 4)
    assert float(q.mean.grad) == pytest.approx(-0.2 / 4)


def test_free_nats_leave_small_divergences_alone():
    q = Gaussian(torch.zeros(1, 1, requires_grad=True), torch.ones(1, 1))
    p = Gaussian(torch.full((1, 1), 0.1, requires_grad=True), torch.ones(1, 1))
    loss, _ = balanced_kl(q, p, balance=0.8, free=1.0)
    assert float(loss.detach()) == pytest.approx(1.0)
    loss.sum().backward()
    assert float(p.mean.grad) == 0.0


def test_symlog_and_back():
    x = torch.tensor([-1000.0, -1.0, 0.0, 0.5, 20.0])
    assert torch.allclose(symexp(symlog(x)), x, rtol=1e-4)
    assert float(symlog(torch.tensor(math.e - 1))) == pytest.approx(1.0)


def test_a_sequence_at_once_is_the_same_as_step_by_step():
    torch.manual_seed(0)
    rssm = RSSM(RSSMConfig(deter=12, stoch=4, hidden=10), embed=7, actions=3, context=2)
    embeds, actions, context = torch.randn(5, 6, 7), torch.randn(4, 6, 3), torch.randn(6, 2)
    whole = rssm.observe(embeds, actions, context, torch.zeros(5, 6, 4)).state
    state, before = rssm.start(6), torch.zeros(6, 3)
    for t in range(5):
        state = rssm.correct(state, before, embeds[t], context)
        assert torch.allclose(state, whole[t], atol=1e-6)
        before = actions[min(t, 3)]


def test_padding_does_not_enter_the_loss():
    torch.manual_seed(0)
    model = LatentModel(SMALL, 3, 2)
    valid = torch.ones(4, 2)
    valid[2:, 1] = 0
    obs, action, reward = torch.randn(5, 2, 3), torch.randn(4, 2, 2), torch.randn(4, 2)

    def loss_of(obs, reward):
        seen = Sequences(obs, action, reward, torch.ones(4, 2), valid)
        return float(model.loss(seen, model.observe(obs, action, None, None))[0].detach())

    other, others_reward = obs.clone(), reward.clone()
    other[3:, 1] += 5.0
    others_reward[2:, 1] += 5.0
    assert loss_of(other, others_reward) == loss_of(obs, reward)
    other[2, 1] += 5.0
    assert loss_of(other, reward) != loss_of(obs, reward)


def test_it_remembers_what_only_the_first_observation_showed():
    """A cue at the start decides a reward four steps later: beyond any model without a memory."""
    torch.manual_seed(0)
    model = LatentModel(SMALL, 1, 1)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)

    def batch(size):
        cue = torch.randint(2, (size,), generator=generator).float() * 2 - 1
        obs = torch.zeros(5, size, 1)
        obs[0, :, 0] = cue
        reward = torch.zeros(4, size)
        reward[3] = cue
        return Sequences(obs, torch.zeros(4, size, 1), reward, torch.ones(4, size), torch.ones(4, size))

    for _ in range(200):
        seen = batch(64)
        loss, _ = model.loss(seen, model.observe(seen.obs, seen.action, None, generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seen = batch(200)
    with torch.no_grad():
        told = symexp(model.reward(model.observe(seen.obs, seen.action, None, None).state[1:]).squeeze(-1))
    assert float((told[3].sign() == seen.reward[3]).float().mean()) > 0.95
    assert float(told[:3].abs().mean()) < 0.3


def test_pictures_go_through_the_same_model():
    torch.manual_seed(0)
    model = LatentModel(
        LatentModelConfig(deter=16, stoch=4, hidden=16, embed=16, layers=(16,), image_channels=3), 12288, 2, 2
    )
    obs, action = torch.rand(3, 2, 12288), torch.randn(2, 2, 2)
    context = torch.eye(2)
    seen = Sequences(obs, action, torch.zeros(2, 2), torch.ones(2, 2), torch.ones(2, 2))
    loss, metrics = model.loss(seen, model.observe(obs, action, context, torch.Generator().manual_seed(0)))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert torch.isfinite(metrics["model/observation"])
    with pytest.raises(ConfigError, match="12288 numbers, but they have 5"):
        LatentModel(LatentModelConfig(image_channels=3), 5, 2)
