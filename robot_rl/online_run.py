"""What every way of fine-tuning keeps in its run folder: agent, transitions, checkpoints, metrics, evaluations.

RUN/transitions/       the replay log: every online transition, once
RUN/checkpoints/       as after pretraining, with the schedule's state
RUN/metrics.jsonl ...  as after pretraining; steps count interactions
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.registry import AgentConfig, AlgorithmName, build_agent
from robot_rl.algorithms.student import Student
from robot_rl.checkpoint import load_agent, load_policy, save_checkpoint
from robot_rl.data.dataset import load_dataset
from robot_rl.data.hindsight import Hindsight, goal_fn
from robot_rl.data.replay import MEMORY_GB, Replay
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.reward import RewardFn, RewardRule, constant, relabel, require_rule, reward_fn
from robot_rl.data.selection import Episodes
from robot_rl.data.stats import ObservationStats, observation_stats
from robot_rl.device import DeviceName, pick_device
from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import CheckpointError, ConfigError, DivergedError
from robot_rl.evaluate import act_with, rollout
from robot_rl.intervene import require_takeovers
from robot_rl.online import OnlineConfig, OnlineLearner
from robot_rl.recent_episodes import RecentEpisodes
from robot_rl.resume import (
    ONLINE,
    require_as_begun,
    require_model_given,
    require_not_beyond,
    require_online,
    require_unbegun,
)
from robot_rl.run import RunLog, read_metrics, require_intervals
from robot_rl.spec import Spec
from robot_rl.transfer.lesson import learn_from, with_teacher
from robot_rl.transfer.plots import draw_weights
from robot_rl.transfer.store import Teacher, load_teacher

_log = logging.getLogger(__name__)

BEGUN_WITH = ("algorithm", "agent", "env", "seed", "reward", "logged_reward", "augment")  # what a resumed run keeps
OF_TEACHERS = ("agent.transfer.sources", "agent.transfer.teacher")  # come with --transfer, which is looked at by itself


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(OnlineConfig):
    """Fine-tune a policy online."""

    algorithm: tyro.conf.Positional[AlgorithmName]  # which learner
    out: Path  # run folder to write
    agent: AgentConfig  # the learner's own options; those of --start where it is the same learner
    start: Path | None = None  # pretrained run; another learner's gives its actor alone; none starts from scratch
    transfer: Path | None = (
        None  # run of `robot-rl pretrain teacher`: what latent-sac or dreamer takes from other tasks
    )
    data: Path | None = None  # logged data to keep replaying; default those of --start
    env: str = ""  # Gymnasium id; default the one the data come from
    episode_steps: int | None = None  # time limit of episodes; default the environment's
    reward: RewardRule = "logged"  # or from observations: "goal" (-1 until met), "progress", "classifier:RUN"
    logged_reward: float | None = None  # of every logged step, for logs of other tasks; 0 where rewards are never below
    noise_memory: float = 0.0  # correlation of successive exploration noise, [0, 1); 0.9 suits rates of 50 Hz and more
    intervene_share: float = 0.0  # of the steps, taken over by the environment's scripted expert, in [0, 1]
    intervene_until: int = 0  # interactions over which that share falls to 0; 0 keeps it
    intervene_steps: int = 20  # control steps of such a takeover
    steps: int = 60_000  # interactions: control steps, warm-up included
    seed: int = 0  # of episodes, exploration, batches and new weights
    eval_every: int = 5_000  # interactions between evaluations
    eval_episodes: int = 20  # episodes per evaluation; 0 for none, such as where only an arm can act
    checkpoint_every: int = 10_000  # interactions between checkpoints, made at the next episode's start
    log_every: int = 500  # interactions between log lines
    device: DeviceName = "auto"  # where to train
    memory_gb: float = MEMORY_GB  # logged transitions beyond this lie in a nameless file in the dataset's folder
    threads: int = 1  # torch threads; more rarely helps at these sizes
    resume: bool = False  # go on from the last checkpoint in `out`
    wandb: bool = False  # log to Weights & Biases as well

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm == "bc":
            raise ConfigError("bc learns nothing from rewards; fine-tune its policy by awac, iql, sac or td3-bc.")
        if self.world_model is not None:
            self.augment.require_logged(self.reward)
        require_rule(self.reward)
        if self.logged_reward is not None and (self.reward != "logged" or self.world_model is not None):
            raise ConfigError(
                "--logged-reward takes the place of every logged reward; leave out --reward and --world-model, or it."
            )
        require_takeovers(self.intervene_share, self.intervene_until, self.intervene_steps)
        if self.steps < 1 or self.eval_every < 1:
            raise ConfigError(f"--steps is {self.steps} and --eval-every {self.eval_every}; both must be at least 1.")
        require_intervals(log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        if self.eval_episodes < 0:
            raise ConfigError(f"--eval-episodes is {self.eval_episodes}; it must be 0 (no evaluations) or more.")

    @property
    def untrained(self) -> bool:
        """Whether nothing was pretrained, so that the warm-up is at random; latent learners have their own way."""
        return self.start is None and not hasattr(self.agent, "transfer")


class OnlineRun:
    """An online run's folder and what it needs in memory.

    Args:
        config: Resolved options.

    Raises:
        CheckpointError: If `out` already holds a run and `resume` is off, or holds none, or one of other options, and
            it is on.
        ConfigError: If the options do not fit together.
        SpecMismatch: If data, policy and environment do not fit each other.
    """

    def __init__(self, config: FinetuneConfig) -> None:
        data = _data_folder(config)
        config = replace(config, data=None if data is None else data.absolute())  # `export` finds it from anywhere
        device = pick_device(config.device)
        teacher = None if config.transfer is None else load_teacher(config.transfer, device=device)
        if teacher is not None:
            config = replace(config, agent=with_teacher(config.agent, teacher))
        self.config = config
        resumed = _resumed(config, device)
        self.env, agent, episodes = _prepare(config, device, resumed[0] if resumed else None, teacher)
        self.reward = reward_fn(config.reward, self.env, agent.spec)
        offline = _offline(config, agent.spec, episodes, self.reward, device)
        self.learner = OnlineLearner(agent, offline, config, config.seed, self._hindsight(agent.spec, device))
        self.log = ReplayLog(config.out / "transitions", agent.spec)
        self.recent = RecentEpisodes()
        self.results: dict[str, float] = {}
        self._told = False  # that it explores too widely
        self.saved_at = 0
        self.state = resumed[1] if resumed else None
        if self.state is not None:
            self._take_up(self.state)
        elif len(self.log):
            raise CheckpointError(f"{config.out} holds transitions but no checkpoint. Choose another --out.")
        since = None if self.state is None else self.learner.interactions
        self._metrics = RunLog(config.out, config, resume_step=since, wandb=config.wandb, unit="interactions")
        seen = any("eval/return" in row for row in read_metrics(config.out))
        self.unseen = self.learner.interactions == 0 and not seen  # not evaluated as it came, whatever cut it short

    @property
    def finished(self) -> bool:
        """Whether all interactions were taken."""
        return self.learner.interactions >= self.config.steps

    @property
    def checkpoint_due(self) -> bool:
        """Whether it is time for one."""
        return self.learner.interactions - self.saved_at >= self.config.checkpoint_every

    @property
    def scalars(self) -> dict[str, float]:
        """The latest episodes and the last evaluation."""
        return self.recent.scalars() | self.results

    def save(self, extra: Mapping[str, Tensor] | None = None) -> None:
        """Write a checkpoint; the log is durable up to it first."""
        self.log.sync()
        save_checkpoint(
            self.config.out,
            self.learner.agent,
            algorithm=self.config.algorithm,
            agent_config=self.config.agent,
            train_config=self.config,
            progress=self.learner.state() | {"recent": self.recent.table} | dict(extra or {}),
        )
        self.saved_at = self.learner.interactions

    def write_metrics(self, metrics: Metrics) -> None:
        """Log the last update's metrics with the latest episodes.

        Raises:
            DivergedError: If one is not finite.
        """
        now, config = self.learner.interactions, self.config
        scalars = {name: float(value) for name, value in metrics.items()}
        odd = [name for name, value in scalars.items() if not math.isfinite(value)]
        if odd:
            raise DivergedError(
                f"{config.algorithm} diverged: {', '.join(odd)} is not finite after {now} interactions. Lower "
                f"--agent.lr {config.agent.lr:g}. The last checkpoint is kept."
            )
        agent = self.learner.agent
        trials = agent.earnings if isinstance(agent, Student) else {}
        self._metrics.log(now, scalars | trials | self.recent.scalars() | {"updates": float(self.learner.done)})
        if not (self.learner.done or trials or self._told):  # episodes and evaluation are of the policy as it came
            told = self.recent.too_wide(self.results)
            if told is not None:
                _log.warning(told)
            self._told = told is not None

    def evaluate(self) -> dict[str, float]:
        """Episodes of the deterministic policy in an environment of their own; none where there is no environment."""
        agent, config = self.learner.agent, self.config
        if self.env is None:
            return self.results
        agent.eval()
        act = act_with(agent.policy, str(agent.device))
        seed = config.seed * 1_000_000 + 500_000
        self.results = rollout(self.env, act, episodes=config.eval_episodes, seed=seed).scalars()
        agent.train()
        self._metrics.log(self.learner.interactions, self.results)
        return self.results

    def close(self) -> None:
        """Draw the learning curve and let go of everything."""
        self._metrics.close()
        self.log.close()
        if self.env is not None:
            self.env.close()
        agent = self.learner.agent
        if isinstance(agent, Student) and agent.guide is not None:
            latest = deque(self.learner.online.episodes(), maxlen=2)  # the last may have only begun
            draw_weights(self.config.out, agent, max(latest, key=len, default=None))

    def _hindsight(self, spec: Spec, device: str) -> Hindsight | None:
        if not self.config.hindsight:
            return None
        if self.reward is None:
            raise ConfigError("--hindsight needs rewards that follow the goal: give --reward goal or progress.")
        return Hindsight(spec, self.config.capacity, device, goal_fn(self.env), self.reward)

    def _take_up(self, state: dict[str, Tensor]) -> None:
        count = int(state["interactions"])
        if len(self.log) < count:
            raise CheckpointError(
                f"{self.log.path} holds {len(self.log)} transitions, the checkpoint counts on {count}. "
                f"Restore the folder, or start anew with another --out."
            )
        self.learner.load_state(state, self.log.read(0, count))
        self.recent.table = state["recent"]
        self.saved_at = count


def open_env(config: FinetuneConfig, spec: Spec) -> Env:
    """The environment to evaluate and to take turns in, refused unless it fits the policy's spec.

    Raises:
        ConfigError: If none is known.
        SpecMismatch: If it does not fit.
    """
    name = config.env or spec.env_id
    if not name:
        raise ConfigError("The data name no environment. Say which with --env ID.")
    env = make_env(name, **({} if config.episode_steps is None else {"max_episode_steps": config.episode_steps}))
    spec.require_match(env_spec(env), "the policy", name, "Fine-tune in the environment it was trained for.")
    return env


def _resumed(config: FinetuneConfig, device: str) -> tuple[Agent, dict[str, Tensor]] | None:
    require_unbegun(config.out, resume=config.resume)
    if not config.resume:
        return None
    agent, state = load_agent(config.out, device=device)
    require_online(config.out, state)
    require_model_given(config.out, config.world_model, state)
    require_as_begun(config.out, config, BEGUN_WITH, free=(*OF_TEACHERS, "augment.force"))
    require_not_beyond(config.out, int(state[ONLINE]), config.steps, ONLINE)
    return agent, state


def _prepare(
    config: FinetuneConfig, device: str, resumed: Agent | None, teacher: Teacher | None
) -> tuple[Env | None, Agent, Episodes]:
    """Environment (where there are evaluations), agent and logged episodes, checked against each other."""
    dataset = None if config.data is None else load_dataset(config.data)
    episodes: Episodes = [] if dataset is None else dataset  # read from disk whenever gone through
    if resumed is not None:
        spec = resumed.spec
    elif config.start is not None:
        spec = load_policy(config.start).spec
    elif dataset is not None:
        spec = dataset.spec
    elif config.env:
        spec = env_spec(make_env(config.env))
    else:
        raise ConfigError("Nothing to start from: give --start RUN, --data DIR, or --env ID to learn from scratch.")
    env = open_env(config, spec) if config.eval_episodes else None
    if config.env and resumed is None:
        spec = replace(spec, env_id=config.env)  # what is learned here: evaluations and bundles are to say so
    if dataset is not None:
        dataset.spec.require_match(spec, str(dataset.path), "the policy", "Give the data it was pretrained on.")
    if teacher is not None:
        teacher.spec.require_match(spec, str(config.transfer), "the target", "Sources and target must look alike.")
    if teacher is not None and config.start is not None and not teacher.stats.agrees(load_policy(config.start).stats):
        raise ConfigError(
            f"{config.start} scales observations by the means and deviations of other logs than the teacher of "
            f"{config.transfer}. Leave one of them out, or give the --transfer that {config.start} was taught by."
        )
    agent = resumed or _first_agent(config, spec, teacher.stats if teacher else _stats(spec, episodes), device)
    if teacher is None and isinstance(agent, Student) and agent.cfg.transfer.sources:
        taught = config.out if resumed else config.start
        raise ConfigError(f"{taught} was taught by a teacher: give its --transfer RUN here too.")
    if teacher is not None:
        learn_from(agent, teacher, fresh=resumed is None)
    return env, agent, episodes


def _stats(spec: Spec, episodes: Episodes) -> ObservationStats:
    if episodes:
        return observation_stats(episodes)
    return ObservationStats(mean=np.zeros(spec.obs_dim, np.float32), std=np.ones(spec.obs_dim, np.float32))


def _first_agent(config: FinetuneConfig, spec: Spec, stats: ObservationStats, device: str) -> Agent:
    former = None if config.start is None else load_agent(config.start, device=device)[0]
    torch.manual_seed(config.seed)  # after loading, which moves torch's generator to where the pretraining left it
    if former is None:
        return build_agent(config.agent, spec, stats, seed=config.seed, device=device)
    if isinstance(former, Student) and type(former.cfg) is not type(config.agent):
        raise ConfigError(
            f"The actor of {config.start} acts on the state of its world model, which {config.algorithm} has not. "
            f"Go on with the learner it was trained by, or leave --start out and give the logs with --data."
        )
    agent = build_agent(config.agent, spec, former.stats, seed=config.seed, device=device)
    if type(former.cfg) is type(config.agent):
        agent.take_over(former)
    else:
        agent.adopt(former)
    return agent


def _data_folder(config: FinetuneConfig) -> Path | None:
    if config.data is not None or config.start is None or config.offline_share == 0:
        return config.data
    folder = load_policy(config.start).data
    if folder == Path():  # it learned from interactions alone
        return None
    if not folder.exists():
        raise ConfigError(
            f"{config.start} was pretrained on {folder}, which is gone. Name the data with --data, or drop them with "
            f"--offline-share 0."
        )
    return folder


def _offline(
    config: FinetuneConfig, spec: Spec, episodes: Episodes, reward: RewardFn | None, device: str
) -> Replay | None:
    if not episodes or config.offline_share == 0:
        return None
    if config.logged_reward is not None:
        reward = constant(config.logged_reward)
    wanted = episodes if reward is None else relabel(episodes, reward)
    return Replay.of(spec, wanted, device, beside=config.data, memory_gb=config.memory_gb)
