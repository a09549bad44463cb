"""Similarity, action replay and imagination: equations by hand, and that each does what it is for."""

import math

import pytest
import torch

from robot_rl.algorithms.dreamer import lambda_returns
from robot_rl.transfer.action_replay import ActionReplay
from robot_rl.transfer.similarity import Similarity


def test_distillation_by_hand():
    similarity = Similarity(1, 1, 2, kind="learned", floor=0.1)
    with torch.no_grad():
        similarity.project.weight.fill_(2.0)
        similarity.project.bias.fill_(0.0)
        similarity.score.weight.copy_(torch.tensor([[math.log(99.0), 0.0]]))  # scores: log 99 f_k
        similarity.score.bias.fill_(0.0)
    theirs, own = torch.tensor([[[[1.0], [0.0]]]]), torch.tensor([[[0.5]]], requires_grad=True)
    weights = similarity.weights(theirs, own)
    assert weights.flatten().tolist() == pytest.approx([0.99, 0.01])
    loss, mean = similarity.loss(theirs, own, torch.ones(1, 1))
    # 0.99 (2 - 0.5)^2 + max(0.1, 0.01) (0 - 0.5)^2
    assert float(loss.detach()) == pytest.approx(0.99 * 2.25 + 0.1 * 0.25)
    assert mean.tolist() == pytest.approx([0.99, 0.01])
    loss.backward()
    # through f directly, not through the weights
    assert float(own.grad) == pytest.approx(0.99 * -3.0 + 0.1 * 1.0)


def test_uniform_weights_select_nothing():
    similarity = Similarity(3, 2, 4, kind="uniform", floor=0.1)
    assert torch.equal(similarity.weights(torch.randn(5, 4, 3), torch.randn(5, 2)), torch.full((5, 4), 0.25))


def test_the_source_that_the_student_resembles_gets_the_largest_weight():
    """The first source's states are a rotation of the student's own, the others are noise.

    A linear score tells sources apart by where their states lie, as a teacher that knows its task's states do.
    """
    torch.manual_seed(0)
    similarity = Similarity(6, 6, 3, kind="learned", floor=0.1)
    turn = torch.linalg.qr(torch.randn(6, 6))[0]
    optimiser = torch.optim.Adam(similarity.parameters(), 1e-2)
    first, where = None, 2.0 * torch.eye(3, 6)
    for _ in range(300):
        own = torch.randn(4, 16, 6)
        theirs = torch.stack([own @ turn, torch.randn(4, 16, 6), torch.randn(4, 16, 6)], 2) + where
        loss, mean = similarity.loss(theirs, own, torch.ones(4, 16))
        first = mean if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert mean.argmax() == 0
    assert float(mean[0]) > 0.5 > float(first[0])


def test_predicted_weights_follow_whose_model_explains_what_is_seen():
    """The first source's states are the easiest to imitate; the second's model is the one that is right."""
    torch.manual_seed(0)
    where = 2.0 * torch.eye(2, 6)
    surprise = torch.tensor([3.0, 0.5]).expand(4, 16, 2)
    found = {}
    for kind in ("learned", "predicted"):
        similarity = Similarity(6, 6, 2, kind=kind, floor=0.1)
        optimiser = torch.optim.Adam(similarity.parameters(), 1e-2)
        for _ in range(300):
            own = torch.randn(4, 16, 6)
            theirs = torch.stack([own, torch.randn(4, 16, 6)], 2) + where
            told = surprise if kind == "predicted" else None
            loss, found[kind] = similarity.loss(theirs, own, torch.ones(4, 16), told)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert found["learned"].argmax() == 0
    assert float(found["predicted"][1]) == pytest.approx(1 / (1 + math.exp(-2.5)), abs=0.1)


def test_predicted_weights_are_not_bent_by_the_distillation():
    torch.manual_seed(0)
    similarity = Similarity(3, 2, 2, kind="predicted", floor=0.0)
    theirs, own = torch.randn(2, 3, 2, 3), torch.randn(2, 3, 2)
    agreed = -similarity.weights(theirs, own).detach().log()  # the target is what they are already
    loss, _ = similarity.loss(theirs, own, torch.ones(2, 3), agreed)
    loss.backward()
    assert similarity.score.weight.grad.abs().max() < 1e-6
    assert similarity.project.weight.grad.abs().max() > 0.01


def test_states_that_are_not_there_count_for_nothing():
    similarity = Similarity(2, 2, 2, kind="learned", floor=0.1)
    theirs, own, there = torch.randn(3, 2, 2, 2), torch.randn(3, 2, 2), torch.ones(3, 2)
    there[2, 1] = 0
    loss, mean = similarity.loss(theirs, own, there)
    theirs[2, 1], own[2, 1] = 100.0, -100.0
    again, same = similarity.loss(theirs, own, there)
    assert float(loss.detach()) == float(again.detach())
    assert torch.equal(mean, same)


def test_action_replay_gives_back_what_each_source_did():
    """Two sources answer the same state by opposite actions."""
    torch.manual_seed(0)
    replay = ActionReplay(3, 2, 2, (64,), 4)
    optimiser = torch.optim.Adam(replay.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        state, source = torch.rand(64, 3) * 2 - 1, torch.randint(2, (64,))
        action = 0.8 * state[:, :2] * (1 - 2 * source)[:, None]
        loss = replay.loss(state, source, action, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    state = torch.rand(200, 3) * 2 - 1
    for source, sign in ((0, 1.0), (1, -1.0)):
        chosen = torch.eye(2)[torch.full((200,), source)]
        guide = replay.guide(state, chosen, torch.zeros(200, 4))
        assert guide.shape == (200, 50)
        told = torch.tanh(replay.act(guide)).detach()
        assert float((told - sign * 0.8 * state[:, :2]).abs().mean()) < 0.12


def test_lambda_returns_by_hand():
    rewards, discounts = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.9], [0.5]])
    values = torch.tensor([[10.0], [20.0]])
    found = lambda_returns(rewards, discounts, values, trace=0.5)
    last = 2.0 + 0.5 * 20.0
    assert found.flatten().tolist() == pytest.approx([1.0 + 0.9 * (0.5 * 10.0 + 0.5 * last), last])
