"""Losses and updates against numbers worked by hand or by another route."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.awac import AWAC, AWACConfig
from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.iql import IQL, IQLConfig
from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.sac import SAC, SACConfig
from robot_rl.algorithms.steps import FusedAdam, adam, polyak
from robot_rl.algorithms.td3_bc import TD3BC, TD3BCConfig
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.actor import GaussianActor, Policy, Scaler, SquashedGaussianActor
from robot_rl.nets.ensemble import EnsembleCritic
from robot_rl.spec import Entry
from tests.learning.made import make_spec

SPEC = make_spec()
STATS = ObservationStats(np.full(5, 3.0, np.float32), np.full(5, 2.0, np.float32))


def unit_batch(size: int = 8) -> Batch:
    g = torch.Generator().manual_seed(3)
    mask = torch.ones(size)
    mask[0] = 0.0
    return Batch(
        torch.randn(size, 5, generator=g),
        torch.rand(size, 2, generator=g) * 2 - 1,
        torch.randn(size, generator=g),
        mask,
        torch.randn(size, 5, generator=g),
        torch.ones(size),
    )


def test_softmax_weights_average_to_one_and_match_the_closed_form() -> None:
    agent = AWAC(AWACConfig(temperature=2.0), SPEC, STATS)
    weights = agent.weights(torch.tensor([0.0, 2.0 * math.log(3.0)]))
    assert weights.tolist() == pytest.approx([0.5, 1.5])  # 2 * [1, 3] / 4


def test_exp_weights_are_capped() -> None:
    agent = AWAC(AWACConfig(temperature=1.0, weighting="exp", max_weight=7.0), SPEC, STATS)
    assert agent.weights(torch.tensor([math.log(2.0), 10.0])).tolist() == pytest.approx([2.0, 7.0])


def test_awac_target_masks_termination_and_obeys_the_ceiling() -> None:
    agent = AWAC(AWACConfig(q_max=0.0, critics=2), SPEC, STATS)
    batch = unit_batch()
    for parameter in agent.target_critic.parameters():
        parameter.zero_()
    agent.target_critic.net[-1].bias += 5.0  # every target Q is 5
    for parameter in agent.critic.parameters():
        nn.init.zeros_(parameter)
    loss, _ = agent._critic_loss(batch)
    target = (batch.reward + 0.99 * 5.0 * batch.mask).clamp(max=0.0)
    assert loss.item() == pytest.approx(2 * target.square().mean().item(), rel=1e-5)


def test_iql_expectile_weighs_surprises_by_their_sign() -> None:
    agent = IQL(IQLConfig(expectile=0.9), SPEC, STATS)
    for parameter in agent.value.parameters():
        nn.init.zeros_(parameter)
    _, metrics = agent._value_step(unit_batch(2), torch.tensor([2.0, -1.0]))
    assert metrics["value/loss"].item() == pytest.approx((0.9 * 4.0 + 0.1 * 1.0) / 2)


def test_td3_bc_scales_q_by_its_mean_size() -> None:
    agent = TD3BC(TD3BCConfig(alpha=2.5), SPEC, STATS)
    batch = unit_batch()
    loss, _ = agent._actor_loss(batch)
    action = agent.actor(batch.obs)
    q = agent.critic(batch.obs, action)[0]
    expected = -2.5 / q.abs().mean() * q.mean() + (action - batch.action).square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("filtered", [False, True])
def test_what_a_policy_tried_in_a_model_is_not_cloned(*, filtered: bool) -> None:
    real = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    batch = unit_batch()._replace(real=real)
    other = batch._replace(action=torch.where(real[:, None] > 0, batch.action, -batch.action))
    td3 = TD3BC(TD3BCConfig(), SPEC, STATS)
    error = (td3.actor(batch.obs) - batch.action).square().mean(1)
    _, metrics = td3._actor_loss(batch)
    assert metrics["actor/cloning"].item() == pytest.approx(error[real > 0].mean().item())
    sac = SAC(SACConfig(bc_weight=1.0, bc_filter=filtered, critics=2), SPEC, STATS)
    losses: dict[str, list[float]] = {"td3": [td3._actor_loss(rows)[0].item() for rows in (batch, other)], "sac": []}
    for rows in (batch, other):
        sac.generator.manual_seed(0)
        losses["sac"].append(sac._actor_loss(rows)[0].item())
    for loss in losses.values():
        assert loss[0] == pytest.approx(loss[1])
    moved = batch._replace(action=-batch.action)
    assert td3._actor_loss(moved)[0].item() != pytest.approx(losses["td3"][0])


def test_an_actor_that_adds_to_a_proposal_clones_it_and_not_the_logged_action() -> None:
    sac = SAC(SACConfig(bc_weight=1.0, critics=2), SPEC, STATS, residual=True)
    batch = unit_batch()
    _, _, metrics = sac._actor_loss(batch)
    added = (sac.actor(batch.obs) - torch.tanh(batch.obs[:, -SPEC.action_dim :])).square().mean()
    assert metrics["actor/cloning"].item() == pytest.approx(added.item())
    _, _, moved = sac._actor_loss(batch._replace(action=-batch.action))
    assert moved["actor/cloning"].item() == pytest.approx(added.item())


def test_td3_without_cloning_is_plain_td3() -> None:
    agent = TD3BC(TD3BCConfig(bc_weight=0.0), SPEC, STATS)
    batch = unit_batch()
    loss, _ = agent._actor_loss(batch)
    assert loss.item() == pytest.approx(-agent.critic(batch.obs, agent.actor(batch.obs))[0].mean().item())


def test_a_standard_deviation_begins_where_it_can_be_learned() -> None:
    actor = GaussianActor(5, 2, (8,), log_std=(-5.0, -1.0))
    (-actor.std().sum()).backward()
    assert actor.std().log().tolist() == [-1.0, -1.0]
    assert bool((actor.log_std.grad != 0).all())


def test_learners_need_bounded_actions() -> None:
    endless = Entry("action", ("0",), low=(-math.inf,), high=(math.inf,))
    spec = replace(SPEC, action=(endless,))
    with pytest.raises(ConfigError, match=r"from \[-inf\] to \[inf\]; learners need finite bounds"):
        build_agent(SACConfig(), spec, STATS)


def test_td3_moves_the_actor_every_second_update() -> None:
    agent = TD3BC(TD3BCConfig(), SPEC, STATS)
    before = [p.clone() for p in agent.actor.parameters()]
    agent.update(unit_batch())
    assert all(torch.equal(a, b) for a, b in zip(before, agent.actor.parameters(), strict=True))
    agent.update(unit_batch())
    assert not any(torch.equal(a, b) for a, b in zip(before, agent.actor.parameters(), strict=True))


def test_log_prob_equals_torchs_normal() -> None:
    actor = GaussianActor(5, 2, (8,), log_std=(-6.0, 0.0))
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-1.0, 3.0]))  # the second is clipped to 0
    batch = unit_batch()
    mean = actor.mean(batch.obs)
    expected = Normal(mean, torch.tensor([math.exp(-1.0), 1.0])).log_prob(batch.action).sum(-1)
    assert torch.allclose(actor.log_prob(mean, batch.action), expected, atol=1e-6)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_ensemble_members_equal_separate_networks(layer_norm: bool) -> None:
    critic = EnsembleCritic(3, 5, 2, (16, 8), layer_norm=layer_norm)
    batch = unit_batch()
    together = critic(batch.obs, batch.action)
    for n in range(3):
        x = torch.cat([batch.obs, batch.action], -1)
        for layer in critic.net:
            if hasattr(layer, "weight") and layer.weight.shape[1] == 1:  # layer norm
                x = nn.functional.layer_norm(x, x.shape[-1:]) * layer.weight[n] + layer.bias[n]
            elif hasattr(layer, "weight"):
                x = x @ layer.weight[n] + layer.bias[n]
            else:
                x = torch.relu(x)
        assert torch.allclose(together[n], x.squeeze(-1), atol=1e-6)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(critic(batch.obs, batch.action, some), together[some], rtol=0, atol=1e-6)


def test_awac_begins_with_little_noise() -> None:
    agent = AWAC(AWACConfig(actor_hidden=(4,), critic_hidden=(4,)), SPEC, STATS)
    torch.testing.assert_close(agent.actor.std(), torch.full((2,), math.exp(-3.0)))  # the authors' start


def test_polyak_moves_by_tau() -> None:
    target, source = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(target.weight, 1.0)
    nn.init.constant_(source.weight, 3.0)
    polyak(target, source, 0.25)
    assert target.weight.item() == pytest.approx(1.5)


def test_policy_speaks_the_robots_units() -> None:
    class Always(nn.Module):
        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            self.seen = obs
            return torch.tensor([[-1.0, 0.5]])

    actor = Always()
    action = Policy(actor, Scaler(SPEC, STATS))(torch.full((1, 5), 7.0))
    assert actor.seen.tolist() == [[2.0] * 5]  # (7 - 3) / 2
    assert action.tolist() == [[-2.0, 2.5]]  # bounds -2 ... 4


def test_impossible_settings_are_refused_with_their_value() -> None:
    with pytest.raises(ConfigError, match=r"temperature is -1"):
        AWACConfig(temperature=-1.0)
    with pytest.raises(ConfigError, match=r"expectile is 1\.5"):
        IQLConfig(expectile=1.5)


def test_squashed_log_prob_equals_torchs_transformed_normal() -> None:
    actor = SquashedGaussianActor(5, 2, (8,), first_std=0.7)
    obs = torch.randn(16, 5)
    action, log_prob, _ = actor.sample(obs, torch.Generator().manual_seed(0))
    mean, log_std = actor._moments(obs)
    same = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    torch.testing.assert_close(log_prob, same.log_prob(action.clamp(-0.999999, 0.999999)).sum(-1), rtol=1e-3, atol=1e-3)
    assert log_std.exp().unique().item() == pytest.approx(0.7)


def test_no_noise_is_the_deterministic_action_for_every_actor() -> None:
    obs = torch.randn(4, 5)
    for cfg in (SACConfig(), AWACConfig(), TD3BCConfig()):
        agent = build_agent(cfg, SPEC, STATS)
        assert torch.equal(agent.behaviour(obs, torch.zeros(4, 2)), agent.policy(obs))
        assert not torch.equal(agent.behaviour(obs, torch.ones(4, 2)), agent.policy(obs))


def test_sac_target_is_the_minimum_of_the_drawn_critics() -> None:
    agent = SAC(SACConfig(critics=3, target_critics=3, layer_norm=False, backup_entropy=True, alpha=0.2), SPEC, STATS)
    batch = unit_batch()
    for net in (agent.target_critic, agent.critic):
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
    agent.target_critic.net[-1].bias += torch.tensor([5.0, 4.0, 6.0]).view(3, 1, 1)
    kept = agent.generator.get_state()
    _, logp, _ = agent.actor.sample(batch.next_obs, agent.generator)
    agent.generator.set_state(kept)
    loss, _ = agent._critic_loss(batch)
    target = batch.reward + 0.99 * batch.mask * (4.0 - 0.2 * logp)
    assert loss.item() == pytest.approx(3 * target.square().mean().item(), rel=1e-5)


def test_sac_filter_clones_only_what_the_critics_prefer() -> None:
    batch = unit_batch()
    for preference, share in ((-1.0, 0.0), (1.0, 1.0)):
        agent = SAC(SACConfig(critics=2, bc_weight=1.0, bc_filter=True, layer_norm=False), SPEC, STATS)
        values = iter([torch.zeros(2, 8), torch.full((2, 8), preference)])  # of the policy's action, of the logged one
        agent.critic.forward = lambda *_, values=values: next(values)
        _, _, metrics = agent._actor_loss(batch)
        assert metrics["actor/cloned_share"].item() == share


def test_sac_temperature_rises_while_entropy_is_low() -> None:
    agent = SAC(SACConfig(target_entropy=0.0), SPEC, STATS)
    before = agent.log_alpha.item()
    agent._alpha_step(torch.full((8,), 2.0))  # entropy -2
    assert agent.log_alpha.item() > before


def test_the_average_of_actors_acts_and_the_actor_learns() -> None:
    plain, averaged = (build_agent(BCConfig(hidden=(8,), ema=ema), SPEC, STATS) for ema in (0.0, 0.5))
    averaged.load_state_dict(
        plain.state_dict() | {f"averaged_{k}": v for k, v in plain.state_dict().items() if "actor" in k}
    )
    weights: list[torch.Tensor] = []
    batch = unit_batch()
    expected = plain.actor.net[0].weight.detach().clone()
    for update in range(1, 4):
        for agent in (plain, averaged):
            agent.update(batch)
        assert torch.equal(plain.actor.net[0].weight, averaged.actor.net[0].weight)
        rate = min(0.5, update / (update + 10))
        expected = rate * expected + (1 - rate) * plain.actor.net[0].weight.detach()
        torch.testing.assert_close(averaged.policy.actor.net[0].weight, expected)
        weights.append(expected)
    assert not torch.equal(weights[-1], plain.actor.net[0].weight)


def test_an_average_starts_from_a_run_without_one_and_the_other_way_round() -> None:
    def made(ema: float) -> Agent:
        agent = build_agent(IQLConfig(hidden=(8,), ema=ema), SPEC, STATS)
        for _ in range(3):
            agent.update(unit_batch())
        return agent

    obs = torch.randn(4, 5)
    without, with_average = made(0.0), made(0.9)
    one, two = made(0.9), made(0.0)
    one.take_over(without)
    assert torch.equal(one.act(obs), without.act(obs))
    two.take_over(with_average)
    assert torch.equal(two.actor.net[0].weight, with_average.actor.net[0].weight)


def test_an_actor_that_would_act_differently_is_not_adopted() -> None:
    cloned = build_agent(BCConfig(hidden=(8,)), SPEC, STATS)
    clipping = build_agent(AWACConfig(actor_hidden=(8,)), SPEC, STATS)
    with pytest.raises(ConfigError, match=r"squashes its mean, the new learner's clips it.*Give --agent.squash-mean"):
        clipping.adopt(cloned)
    with pytest.raises(ConfigError, match=r"clips its mean, .* Pretrain with --agent.squash-mean"):
        build_agent(SACConfig(hidden=(8,)), SPEC, STATS).adopt(clipping)


def test_an_adopted_mean_is_explored_with_care() -> None:
    cloned = build_agent(BCConfig(hidden=(8,)), SPEC, STATS)
    for cfg in (AWACConfig(actor_hidden=(8,), squash_mean=True), IQLConfig(hidden=(8,)), SACConfig(hidden=(8,))):
        agent = build_agent(cfg, SPEC, STATS)
        agent.adopt(cloned)
        obs = torch.randn(16, 5)
        assert torch.allclose(agent.policy(obs), cloned.policy(obs), atol=1e-6)
        moved = agent.scaler.to_unit(agent.behaviour(obs, torch.ones(16, 2))) - agent.scaler.to_unit(agent.policy(obs))
        assert 0 < moved.abs().max() < 0.11


def test_fused_adam_begins_anew_once_its_state_is_cleared() -> None:
    first, second = (torch.full((4,), 1.0, requires_grad=True) for _ in range(2))
    old, new = adam([first], 0.1), adam([second], 0.1)

    def steps(weights: torch.Tensor, optimiser: FusedAdam, slope: float) -> None:
        for _ in range(3):
            optimiser.zero_grad()
            (weights * slope).sum().backward()
            optimiser.step()

    steps(first, old, slope=50.0)
    first.data.fill_(1.0)
    old.state.clear()
    steps(first, old, slope=-1.0)
    steps(second, new, slope=-1.0)
    assert torch.equal(first, second)


def test_fused_adam_equals_torchs_to_the_last_bit_also_after_loading() -> None:
    def run(kind: type[torch.optim.Adam]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        weights = [torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)]
        optimiser = kind(weights, lr=0.1, weight_decay=0.01, fused=True)
        for update in range(6):
            optimiser.zero_grad()
            sum((w**2).sum() for w in weights).backward()
            optimiser.step()
            if update == 3:
                saved = copy.deepcopy(optimiser.state_dict())
                optimiser = kind(weights, lr=0.1, weight_decay=0.01, fused=True)
                optimiser.load_state_dict(saved)
        return [*weights, *(slot["step"] for slot in optimiser.state_dict()["state"].values())]

    assert all(torch.equal(a, b) for a, b in zip(run(torch.optim.Adam), run(FusedAdam), strict=True))


def test_fused_adam_needs_every_gradient() -> None:
    weights = [torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)]
    optimiser = FusedAdam(weights, lr=0.1, fused=True)
    for _ in range(2):
        sum(w.sum() for w in weights).backward()
        optimiser.step()
    weights[0].grad = None
    with pytest.raises(RuntimeError, match="no gradient"):
        optimiser.step()


def test_awac_s_standard_deviation_begins_where_it_is_told() -> None:
    assert torch.allclose(AWAC(AWACConfig(), SPEC, STATS).actor.std(), torch.tensor(math.exp(-3.0)))
    assert torch.allclose(AWAC(AWACConfig(first_std=1.0), SPEC, STATS).actor.std(), torch.tensor(1.0))
    with pytest.raises(ConfigError, match=r"first_std is 2; log_std_bounds \[-6\.0, 0\.0\] .* between 0\.00248 and 1"):
        AWACConfig(first_std=2.0)
