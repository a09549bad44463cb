"""Logs of named quality, made by this project's own agents from a seed: TD3, or DQN where actions are discrete.

D4RL's names (Fu et al. 2020, arXiv 2004.07219), D4RL's normalised score, our own agents:

    random         actions drawn uniformly
    medium-replay  whole episodes drawn from everything seen until the agent scores `medium`
    medium         rollouts of that agent, with its exploration noise
    expert         rollouts of the best agent of the training, by its evaluations
    medium-expert  half medium, half expert

The best agent, because TD3 on Hopper and Walker2d often falls back; how good it is stands in recipe.json.

Same options and seed, same logs: training runs in one process with one torch thread, one update a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.dqn import DQNConfig
from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Replay
from robot_rl.data.stats import ObservationStats
from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.evaluate import ActFn, act_with, rollout
from robot_rl.spec import Array
from sim import dmc_tasks

Quality = Literal["random", "medium-replay", "medium", "expert", "medium-expert"]
SCORES: dict[str, tuple[float, float]] = (
    {  # returns of a random and an expert policy: D4RL's, which on -v5 are indicative, then our own
        "HalfCheetah-v5": (-280.178953, 12135.0),
        "Hopper-v5": (-20.272305, 3234.3),
        "Walker2d-v5": (1.629008, 4592.3),
        "Acrobot-v1": (-500.0, -80.0),
        "CartPole-v1": (20.0, 500.0),
    }
    | {dmc_tasks.env_id_of(task): (0.0, dmc_tasks.BEST) for task in dmc_tasks.TASKS}
)


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Online training of the agent behind the logs."""

    env: str = "HalfCheetah-v5"  # or Hopper-v5, Walker2d-v5, Acrobot-v1, CartPole-v1, dmc/TASK-v1
    steps: int = 300_000  # environment steps, and about as many updates
    random_steps: int = 10_000  # steps of random actions before the first update
    noise: float = 0.1  # std of exploration noise, share of the action range; discrete: chance of a random action
    medium: float = 40.0  # normalised score at which "medium" is taken
    expert: float | None = None  # normalised score that ends training before `steps`
    eval_every: int = 5_000  # steps between evaluations of 5 episodes
    seed: int = 0  # of everything


@dataclass
class Trained:
    """What training leaves: the agents, their scores, and all transitions up to `medium`."""

    medium: Agent
    expert: Agent
    replay: list[Episode]
    curve: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    medium_score: float | None = None
    expert_score: float | None = None
    reached: bool = False

    def judge(self, agent: Agent, step: int, score: float, medium: float) -> None:
        """Keep `agent` as medium at the first score of `medium`, as expert at each new best."""
        self.curve.append((step, score))
        if score >= medium and not self.reached:
            self.reached, self.medium_score = True, score
            self.medium.load_state_dict(agent.state_dict())
        if self.expert_score is None or score > self.expert_score:
            self.expert_score = score
            self.expert.load_state_dict(agent.state_dict())


def normalised_score(env_id: str, return_: float) -> float:
    """D4RL's kind of score: 0 for a random, 100 for an expert policy."""
    low, high = SCORES[env_id]
    return 100 * (return_ - low) / (high - low)


def train(plan: TrainingPlan, on_step: Callable[[int, float], None]) -> Trained:
    """Train TD3, or DQN, from scratch.

    Args:
        plan: What and how long.
        on_step: Told the step and the last score, for progress bars.

    Returns:
        The agents; `reached` is False if `medium` was never scored, then "medium" is the last agent.

    Raises:
        ConfigError: If nobody knows what a good score is in that environment.
    """
    if plan.env not in SCORES:
        raise ConfigError(f"'{plan.env}' has no scores of reference. Known: {', '.join(SCORES)}.")
    torch.manual_seed(plan.seed)
    env, probe = make_env(plan.env), make_env(plan.env)
    spec = env_spec(env)
    stats = ObservationStats(np.zeros(spec.obs_dim, np.float32), np.ones(spec.obs_dim, np.float32))
    config = DQNConfig() if spec.control == "discrete" else TD3BCConfig(bc_weight=0.0)
    agent, medium, expert = (build_agent(config, spec, stats, seed=plan.seed) for _ in range(3))
    replay = Replay(spec, plan.steps)
    sampler = torch.Generator().manual_seed(plan.seed)
    found = Trained(medium=medium, expert=expert, replay=[])
    score = 0.0
    step = 0
    for episode in _episodes(env, _exploring(agent, env, plan), seed=plan.seed):
        replay.add(episode)
        if not found.reached:
            found.replay.append(episode)
        for _ in range(len(episode)):
            step += 1
            if step > plan.random_steps:
                agent.update(replay.sample(config.batch_size, sampler))
            if step % plan.eval_every == 0:
                result = rollout(probe, act_with(agent.policy), episodes=5, seed=10_000_000 + step)
                score = normalised_score(plan.env, result.mean_return)
                found.judge(agent, step, score, plan.medium)
            on_step(step, score)
        if step >= plan.steps or (plan.expert is not None and (found.expert_score or 0.0) >= plan.expert):
            break
    if not found.reached:
        medium.load_state_dict(agent.state_dict())
        found.medium_score = found.curve[-1][1] if found.curve else None
    if not found.curve:  # too short for an evaluation
        expert.load_state_dict(agent.state_dict())
    env.close()
    probe.close()
    return found


def make_logs(plan: TrainingPlan, trained: Trained | None, quality: Quality, transitions: int) -> list[Episode]:
    """Episodes of `quality`, together exactly `transitions` long; the last is cut to fit.

    Without training there are "random" logs alone, and those of any environment.

    Raises:
        ConfigError: If the agent did not see that many transitions.
    """
    env = make_env(plan.env)
    rng = np.random.default_rng(plan.seed + 1)
    if quality == "random":
        return _cut(_episodes(env, _uniform(env, rng), seed=plan.seed + 20_000_000), transitions, quality)
    if trained is None:
        raise ConfigError(f"'{quality}' logs need a trained agent; only 'random' ones do not.")
    if quality == "medium-replay":
        order = rng.permutation(len(trained.replay))
        return _cut((trained.replay[i] for i in order), transitions, quality)
    if quality == "medium-expert":
        half = transitions // 2
        return [
            *make_logs(plan, trained, "medium", half),
            *make_logs(plan, trained, "expert", transitions - half),
        ]
    agent = trained.medium if quality == "medium" else trained.expert
    act = _noisy(act_with(agent.policy), env, plan.noise, rng)
    return _cut(_episodes(env, act, seed=plan.seed + 20_000_000), transitions, quality)


def _exploring(agent: Agent, env: Env, plan: TrainingPlan) -> ActFn:
    rng = np.random.default_rng(plan.seed)
    uniform, noisy = _uniform(env, rng), _noisy(act_with(agent.policy), env, plan.noise, rng)
    taken = 0

    def act(obs: Array) -> Array:
        nonlocal taken
        taken += 1
        return uniform(obs) if taken <= plan.random_steps else noisy(obs)

    return act


def _uniform(env: Env, rng: np.random.Generator) -> ActFn:
    low, high = _bounds(env)
    if env_spec(env).control == "discrete":
        return lambda _: rng.integers(int(low[0]), int(high[0]), (1,), endpoint=True).astype(np.float32)
    return lambda _: rng.uniform(low, high).astype(np.float32)


def _noisy(act: ActFn, env: Env, noise: float, rng: np.random.Generator) -> ActFn:
    if env_spec(env).control == "discrete":
        uniform = _uniform(env, rng)
        return lambda obs: uniform(obs) if rng.random() < noise else act(obs)
    low, high = _bounds(env)
    scale = noise * (high - low) / 2
    return lambda obs: np.clip(act(obs) + rng.normal(size=low.shape) * scale, low, high).astype(np.float32)


def _bounds(env: Env) -> tuple[Array, Array]:
    spec = env_spec(env)
    return spec.action_low, spec.action_high


def _episodes(env: Env, act: ActFn, *, seed: int) -> Iterator[Episode]:
    """Episodes without end, the i-th reset with seed + i."""
    while True:
        first, _ = env.reset(seed=seed)
        observations, actions, rewards = [np.asarray(first, np.float32)], list[Array](), list[float]()
        terminated = truncated = False
        while not (terminated or truncated):
            action = act(observations[-1])
            obs, reward, terminated, truncated, _ = env.step(action)
            observations.append(np.asarray(obs, np.float32))
            actions.append(action)
            rewards.append(float(reward))
        yield Episode(
            observations=np.stack(observations),
            actions=np.stack(actions),
            rewards=np.asarray(rewards, np.float32),
            terminated=terminated,
            truncated=not terminated,
            source=f"seed {seed}",
        )
        seed += 1


def _cut(episodes: Iterator[Episode], transitions: int, quality: str) -> list[Episode]:
    found: list[Episode] = []
    left = transitions
    for episode in episodes:
        if len(episode) >= left:
            found.append(episode if len(episode) == left else _head(episode, left))
            return found
        found.append(episode)
        left -= len(episode)
    raise ConfigError(
        f"'{quality}' has {transitions - left} transitions, {transitions} were asked for. Train for more --steps."
    )


def _head(episode: Episode, steps: int) -> Episode:
    return Episode(
        observations=episode.observations[: steps + 1],
        actions=episode.actions[:steps],
        rewards=episode.rewards[:steps],
        source=f"{episode.source}, first {steps} steps",
    )
