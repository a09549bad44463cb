"""Fine-tuning where environment and learner take turns in one process: bit-reproducible.

The same schedule runs over the bridge, where actors never wait for the learner; this is the form for
benchmarks and for machines with one core. Checkpoints are made between episodes. Transitions go to the
run's replay log first; a resumed run cuts that log back to its checkpoint and so repeats, to the last
bit, what an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.registry import AgentConfig, AlgorithmName, build_agent
from robot_rl.checkpoint import load_agent, load_policy, resolve, save_checkpoint
from robot_rl.collect import Collector, Finished
from robot_rl.console import progress_bar
from robot_rl.data.dataset import load_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Replay
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.reward import RewardFn, RewardRule, goal_reward, relabel
from robot_rl.data.stats import ObservationStats, observation_stats
from robot_rl.device import DeviceName, pick_device
from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import CheckpointError, ConfigError, DivergedError
from robot_rl.evaluate import act_with, rollout
from robot_rl.interrupt import interrupt_sets
from robot_rl.online import OnlineConfig, OnlineLearner
from robot_rl.run import RunLog
from robot_rl.spec import Array, Spec


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(OnlineConfig):
    """Fine-tune a policy online."""

    algorithm: tyro.conf.Positional[AlgorithmName]  # which learner
    out: Path  # run folder to write
    agent: AgentConfig  # the learner's own options; those of --start where it is the same learner
    start: Path | None = None  # pretrained run; another learner's gives its actor alone; none starts from scratch
    data: Path | None = None  # logged data to keep replaying; default those of --start
    env: str = ""  # Gymnasium id; default the one the data come from
    episode_steps: int | None = None  # time limit of episodes; default the environment's
    reward: RewardRule = "logged"  # "goal": -1 until the environment's goal is met, in logged data as well
    steps: int = 60_000  # interactions: control steps, warm-up included
    seed: int = 0  # of episodes, exploration, batches and new weights
    eval_every: int = 5_000  # interactions between evaluations
    eval_episodes: int = 20  # episodes per evaluation
    checkpoint_every: int = 10_000  # interactions between checkpoints, made at the next episode's start
    log_every: int = 500  # interactions between log lines
    device: DeviceName = "auto"  # where to train
    threads: int = 1  # torch threads; more rarely helps at these sizes
    resume: bool = False  # go on from the last checkpoint in `out`
    wandb: bool = False  # log to Weights & Biases as well

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm == "bc":
            raise ConfigError("bc learns nothing from rewards; fine-tune its policy by awac, iql, sac or td3-bc.")
        if self.steps < 1 or self.eval_every < 1:
            raise ConfigError(f"--steps is {self.steps} and --eval-every {self.eval_every}; both must be at least 1.")


def finetune(config: FinetuneConfig, *, quiet: bool = False) -> dict[str, float]:
    """Run `config`; returns the last evaluation's scalars.

    Raises:
        CheckpointError: If `out` already holds a run and `resume` is off, or holds none and it is on.
        ConfigError: If the options do not fit together.
        DivergedError: If a loss is not finite any more.
        KeyboardInterrupt: After Ctrl-C, once the running episode has ended and the state is saved.
        SpecMismatch: If data, policy and environment do not fit each other.
    """
    torch.set_num_threads(config.threads)
    stop = threading.Event()
    with _Session(config) as session, progress_bar(hidden=quiet) as bar, interrupt_sets(stop):
        task = bar.add_task(config.algorithm, total=config.steps, completed=session.learner.interactions, note="")
        while not session.finished:
            if session.collector.between_episodes and (stop.is_set() or session.checkpoint_due):
                session.save()
                if stop.is_set():
                    break
            session.step()
            if session.learner.interactions % 20 == 0:
                bar.update(task, completed=session.learner.interactions, note=session.note)
        else:
            session.save()
    if stop.is_set() and not session.finished:
        raise KeyboardInterrupt(f"saved at interaction {session.saved_at}; go on with --resume")
    return session.results


class _Recent:
    """Return and success (NaN where unknown) of the latest 20 episodes, for the log."""

    def __init__(self) -> None:
        self.table = torch.zeros(0, 2, dtype=torch.float64)

    def add(self, episode: Finished) -> None:
        success = math.nan if episode.success is None else float(episode.success)
        row = torch.tensor([[episode.return_, success]], dtype=torch.float64)
        self.table = torch.cat([self.table, row])[-20:]

    def scalars(self) -> dict[str, float]:
        if not len(self.table):
            return {}
        mean, success = self.table.mean(0).tolist()
        return {"collect/return": mean} | ({} if math.isnan(success) else {"collect/success": success})


class _Session:
    """Everything that a run holds open."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.config = config
        device = pick_device(config.device)
        resumed = _resumed(config, device)
        agent, env, episodes = _prepare(config, device, resumed[0] if resumed else None)
        spec, reward = agent.spec, _reward(config, env)
        offline = _offline(config, spec, episodes, reward, device)
        self.learner = OnlineLearner(agent, offline, config, config.seed)
        self.collector = Collector(env, spec, seed=config.seed * 1_000_000, reward=reward)
        self._envs = (env, _open_env(config, spec))
        self.results: dict[str, float] = {}
        self.saved_at = 0
        self._recent = _Recent()
        self._metrics: dict[str, Tensor] = {}
        self._log = ReplayLog(config.out / "transitions", spec)
        self._name = hashlib.sha256(f"turns {config.seed}".encode()).digest()[:16]
        if resumed:
            self._take_up(resumed[1])
        elif len(self._log):
            raise CheckpointError(f"{config.out} holds transitions but no checkpoint. Choose another --out.")
        else:
            self.save()  # so that a run that is killed at once can be resumed
        step = self.learner.interactions
        self.run_log = RunLog(config.out, config, resume_step=step or None, wandb=config.wandb, unit="interactions")
        self._behaviour = act_with_noise(agent)
        if not resumed:
            self._evaluate()

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.run_log.close()
        self._log.close()
        for env in self._envs:
            env.close()

    @property
    def finished(self) -> bool:
        return self.learner.interactions >= self.config.steps

    @property
    def checkpoint_due(self) -> bool:
        return self.learner.interactions - self.saved_at >= self.config.checkpoint_every

    @property
    def note(self) -> str:
        shown = self._recent.scalars() | self.results
        names = ("collect/success", "collect/return", "eval/success", "eval/return")
        return "  ".join(f"{n.replace('/', ' ')} {shown[n]:.3g}" for n in names if n in shown)

    def step(self) -> None:
        """One interaction and the updates it asks for."""
        learner, config = self.learner, self.config
        rows, ended = self.collector.step(self._behaviour, learner.agent.updates)
        self._log.append(self._name, learner.interactions, rows)
        learner.take(rows)
        for _ in range(learner.owed):
            self._metrics = learner.update()
        if ended is not None:
            self._recent.add(ended)
        now = learner.interactions
        if now % config.log_every == 0:
            self._write_metrics(now)
        if now % config.eval_every == 0 or self.finished:
            self._evaluate()

    def save(self) -> None:
        """Write a checkpoint; the log is durable up to it first."""
        self._log.sync()
        learner = self.learner
        save_checkpoint(
            self.config.out,
            learner.agent,
            algorithm=self.config.algorithm,
            agent_config=self.config.agent,
            train_config=self.config,
            progress=learner.state() | {"episode": torch.tensor(self.collector.episode), "recent": self._recent.table},
        )
        self.saved_at = learner.interactions

    def _take_up(self, state: dict[str, Tensor]) -> None:
        count = int(state["interactions"])
        if len(self._log) < count:
            raise CheckpointError(
                f"{self._log.path} holds {len(self._log)} transitions, the checkpoint counts on {count}. "
                f"Restore the folder, or start anew with another --out."
            )
        self._log.truncate(count)
        self.learner.load_state(state, self._log.read())
        self.collector.episode = int(state["episode"])
        self._recent.table = state["recent"]
        self.saved_at = count

    def _write_metrics(self, now: int) -> None:
        scalars = {name: float(value) for name, value in self._metrics.items()}
        odd = [name for name, value in scalars.items() if not math.isfinite(value)]
        if odd:
            raise DivergedError(
                f"{self.config.algorithm} diverged: {', '.join(odd)} is not finite after {now} interactions. Lower "
                f"--agent.lr {self.config.agent.lr:g}. The last checkpoint is kept."
            )
        self.run_log.log(now, scalars | self._recent.scalars() | {"updates": float(self.learner.done)})

    def _evaluate(self) -> None:
        agent, config = self.learner.agent, self.config
        agent.eval()
        act = act_with(agent.policy, str(agent.device))
        self.results = rollout(
            self._envs[1], act, episodes=config.eval_episodes, seed=config.seed * 1_000_000 + 500_000
        ).scalars()
        agent.train()
        self.run_log.log(self.learner.interactions, self.results)


def act_with_noise(agent: Agent) -> Any:
    """The agent's exploring policy as a function on numpy vectors: observation, noise -> action."""
    device, behaviour = agent.device, agent.behaviour

    @torch.inference_mode()
    def explore(obs: Array, noise: Array) -> Array:
        agent.eval()  # dropout belongs to the updates
        action = behaviour(torch.from_numpy(obs)[None].to(device), torch.from_numpy(noise)[None].to(device))
        agent.train()
        return action[0].cpu().numpy()

    return explore


def _resumed(config: FinetuneConfig, device: str) -> tuple[Agent, dict[str, Tensor]] | None:
    exists = (config.out / "checkpoints" / "last").exists()
    if exists and not config.resume:
        raise CheckpointError(
            f"{config.out} already holds a run at update {resolve(config.out).name.lstrip('0') or '0'}. "
            f"Add --resume to go on with it, or choose another --out."
        )
    return load_agent(config.out, device=device) if config.resume else None


def _prepare(config: FinetuneConfig, device: str, resumed: Agent | None) -> tuple[Agent, Env, list[Episode]]:
    """Agent, environment and logged episodes, checked against each other."""
    data = _data_folder(config)
    dataset = None if data is None else load_dataset(data)
    episodes = [] if dataset is None else list(dataset)
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
    env = _open_env(config, spec)
    if dataset is not None:
        dataset.spec.require_match(spec, str(dataset.path), "the policy", "Give the data it was pretrained on.")
    agent = resumed or _first_agent(config, spec, episodes, device)
    return agent, env, episodes


def _first_agent(config: FinetuneConfig, spec: Spec, episodes: list[Episode], device: str) -> Agent:
    torch.manual_seed(config.seed)
    if config.start is None:
        size = spec.obs_dim
        stats = (
            observation_stats(episodes)
            if episodes
            else ObservationStats(mean=np.zeros(size, np.float32), std=np.ones(size, np.float32))
        )
        return build_agent(config.agent, spec, stats, seed=config.seed, device=device)
    former, _ = load_agent(config.start, device=device)
    agent = build_agent(config.agent, spec, former.stats, seed=config.seed, device=device)
    if load_policy(config.start).algorithm == config.algorithm:
        agent.take_over(former)
    else:
        agent.adopt(former)
    return agent


def _data_folder(config: FinetuneConfig) -> Path | None:
    if config.offline_share == 0:
        return None if config.data is None else config.data
    if config.data is not None or config.start is None:
        return config.data
    folder = load_policy(config.start).data
    if not folder.exists():
        raise ConfigError(
            f"{config.start} was pretrained on {folder}, which is gone. Name the data with --data, or drop them with "
            f"--offline-share 0."
        )
    return folder


def _offline(
    config: FinetuneConfig, spec: Spec, episodes: list[Episode], reward: RewardFn | None, device: str
) -> Replay | None:
    if not episodes or config.offline_share == 0:
        return None
    return Replay.of(spec, episodes if reward is None else relabel(episodes, reward), device)


def _reward(config: FinetuneConfig, env: Env) -> RewardFn | None:
    return goal_reward(env) if config.reward == "goal" else None


def _open_env(config: FinetuneConfig, spec: Spec) -> Env:
    name = config.env or spec.env_id
    if not name:
        raise ConfigError("The data name no environment. Say which with --env ID.")
    env = make_env(name, **({} if config.episode_steps is None else {"max_episode_steps": config.episode_steps}))
    spec.require_match(env_spec(env), "the policy", name, "Fine-tune in the environment it was trained for.")
    return env
