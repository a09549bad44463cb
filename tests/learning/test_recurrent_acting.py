"""A policy's memory from step to step and from episode to episode."""

import gymnasium as gym
import numpy as np
import torch

from robot_rl.collect import Collector
from robot_rl.evaluate import RecurrentAct, act_with, rollout
from robot_rl.nets.recurrent import RecurrentBehaviour, RecurrentPolicy
from robot_rl.spec import Entry, Spec, vector


class Counting(RecurrentPolicy):
    """Memory: (calls so far, last executed action). Acts by the sum of both."""

    def __init__(self):
        super().__init__(2)

    def forward(self, obs, state):
        action = state.sum(1, keepdim=True)
        return action, torch.cat([state[:, :1] + 1, action], 1)


class CountingNoisily(RecurrentBehaviour):
    def __init__(self):
        super().__init__(2)

    def forward(self, obs, state, noise):
        return Counting()(obs, state)


class Line(gym.Env):
    """Three steps; the arm executes half of what it is asked."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-9, 9, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.asked = []
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.asked.append(float(action[0]))
        done = len(self.asked) == 3
        return np.zeros(1, np.float32), float(action[0]), done, False, {"executed_action": action / 2}


def test_each_episode_begins_with_an_empty_memory_and_knows_what_was_executed():
    # actions: 0; 1 + 0/2; 2 + 1/2
    found = rollout(Line(), act_with(Counting()), episodes=2, seed=0)
    assert found.returns == (3.5, 3.5)


def test_collecting_remembers_as_evaluating_does():
    spec = Spec(
        observation=(vector("observation", 1),), action=(Entry("action", ("0",), "1", (-9.0,), (9.0,)),), rate_hz=1.0
    )
    collector = Collector(Line(), spec, seed=0)
    act = RecurrentAct(CountingNoisily())
    executed = []
    for _ in range(6):
        rows, _ = collector.step(act, 0)
        executed.append(float(rows["action"][0, 0]))
    assert executed == [0.0, 0.5, 1.25] * 2
