"""Offline training: dataset in, run folder out, resumable at every checkpoint."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.registry import AgentConfig, AlgorithmName, build_agent
from robot_rl.checkpoint import load_agent, save_checkpoint
from robot_rl.console import progress_bar
from robot_rl.data.dataset import Dataset, load_dataset
from robot_rl.data.replay import MEMORY_GB, Batch, Replay, TransitionSource
from robot_rl.data.reward import RewardFn, RewardRule, reward_fn
from robot_rl.data.selection import Episodes, Selection
from robot_rl.data.stats import observation_stats
from robot_rl.device import DeviceName, pick_device, restore_generator
from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import ConfigError, DataError, DivergedError
from robot_rl.evaluate import act_with, rollout
from robot_rl.interrupt import interrupt_sets
from robot_rl.resume import (
    require_as_begun,
    require_model_given,
    require_not_beyond,
    require_pretrained,
    require_same_logs,
    require_unbegun,
)
from robot_rl.run import RunLog, require_intervals
from robot_rl.world_models.augment import AugmentConfig, Augmented, augmented

# what a resumed run keeps: its networks, which episodes it learns from, and what a world model adds to them
BEGUN_WITH = ("algorithm", "agent", "seed", "holdout", "successes_only", "reward", "augment")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Train a policy offline."""

    algorithm: tyro.conf.Positional[AlgorithmName]  # which learner
    data: Path  # dataset folder from `robot-rl data import` or `robot-rl record`
    out: Path  # run folder to write
    agent: AgentConfig  # the learner's own options
    world_model: Path | None = None  # run of `robot-rl world-model`: a share of each batch comes from it
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # how the world model enters the batches
    steps: int = 20_000  # gradient updates
    seed: int = 0  # of weights and batches
    env: str = ""  # Gymnasium id to evaluate in; empty for the dataset's own, "none" for no evaluation
    episode_steps: int | None = None  # time limit of evaluation episodes; default the environment's
    eval_every: int = 5_000  # updates between evaluations; 0 evaluates at the end only
    eval_episodes: int = 10  # episodes per evaluation
    holdout: float = 0.0  # share of episodes kept out of training to measure the action error
    successes_only: bool = False  # train on the episodes labelled successful
    reward: RewardRule = "logged"  # or from observations: "goal" (-1 until met), "progress", "classifier:RUN"
    checkpoint_every: int = 5_000  # updates between checkpoints
    log_every: int = 200  # updates between log lines
    device: DeviceName = "auto"  # where to train
    memory_gb: float = MEMORY_GB  # transitions beyond this lie in a nameless file in the dataset's folder
    threads: int = 1  # torch threads; more rarely helps at these sizes
    resume: bool = False  # go on from the last checkpoint in `out`
    wandb: bool = False  # log to Weights & Biases as well

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"--steps is {self.steps}; it must be at least 1.")
        require_intervals(log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        if self.eval_every < 0 or self.eval_episodes < 1:
            raise ConfigError(
                f"--eval-every is {self.eval_every} (0 or more) and --eval-episodes {self.eval_episodes} (1 or more); "
                f"--env none leaves evaluations out."
            )
        if not 0 <= self.holdout < 1:
            raise ConfigError(f"--holdout is {self.holdout}; it must lie in [0, 1).")
        if self.world_model is None and self.augment != AugmentConfig():
            raise ConfigError("--augment options need a model: name its run with --world-model RUN.")
        if self.world_model is not None and self.algorithm == "bc":
            raise ConfigError(
                "bc learns which action goes with which observation, and a world model says what comes after: "
                "--world-model has nothing to give it. Leave it out, or take another learner, such as td3-bc."
            )
        if self.world_model is not None:
            self.augment.require_logged(self.reward)


def pretrain(config: PretrainConfig, *, quiet: bool = False) -> dict[str, float]:
    """Run `config`; returns the last evaluation's scalars (empty without an environment).

    Raises:
        DataError: If the dataset cannot be learned from, or another process is at work on `out`.
        DivergedError: If a loss is not finite any more.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
        CheckpointError: If `out` already holds a run and `resume` is off, or holds none, or one of more updates, and
            it is on.
    """
    config = replace(config, data=config.data.absolute())  # so that `export` finds it from anywhere
    if config.world_model is not None:
        config = replace(config, world_model=config.world_model.absolute())
    torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    dataset = load_dataset(config.data)
    env = _open_env(config, dataset)
    training, held_out = _split(dataset, config, reward_fn(config.reward, env, dataset.spec))
    replay = Replay.of(dataset.spec, training, device, beside=dataset.path, memory_gb=config.memory_gb)
    if not len(replay):
        raise DataError(
            f"{dataset.path}: the {len(training)} episodes to learn from have one step each, and the log lacks the "
            f"observation after it: no transition is left. Record longer episodes."
        )
    probe = Replay.of(dataset.spec, held_out, device, beside=dataset.path) if held_out else None
    agent, sampler, progress = _start(config, dataset, training, device)
    source = _augmented(config, replay, agent, progress)
    results: dict[str, float] = {}
    stop = threading.Event()
    with (
        RunLog(config.out, config, resume_step=agent.updates or None, wandb=config.wandb) as log,
        progress_bar(hidden=quiet) as bar,
        interrupt_sets(stop),
    ):
        task = bar.add_task(config.algorithm, total=config.steps, completed=agent.updates, note="")
        while agent.updates < config.steps and not stop.is_set():
            metrics = agent.update(agent.draw(source, sampler))
            step, last = agent.updates, agent.updates == config.steps
            if step % config.log_every == 0 or last:
                scalars = {name: float(value) for name, value in metrics.items()}
                _require_finite(scalars, step, config)
                if probe is not None:
                    scalars["holdout/action_error"] = _action_error(agent, probe)
                log.log(step, scalars)
                bar.update(task, completed=step, note=_note(scalars | results))
            if env is not None and (last or (config.eval_every and step % config.eval_every == 0)):
                results = _evaluate(agent, env, config)
                log.log(step, results)
            if step % config.checkpoint_every == 0 or last or stop.is_set():
                _save(config, agent, sampler, source)
    if env is not None:
        env.close()
    if stop.is_set():
        raise KeyboardInterrupt(f"saved at update {agent.updates}; go on with --resume")
    return results


def _require_finite(scalars: dict[str, float], step: int, config: PretrainConfig) -> None:
    odd = [name for name, value in scalars.items() if not math.isfinite(value)]
    if odd:
        raise DivergedError(
            f"{config.algorithm} diverged: {', '.join(odd)} is not finite at update {step}. Lower --agent.lr "
            f"{config.agent.lr:g}, and run `robot-rl data doctor {config.data}`. The last checkpoint is kept."
        )


def _start(
    config: PretrainConfig, dataset: Dataset, training: Episodes, device: str
) -> tuple[Agent, torch.Generator, dict[str, Tensor] | None]:
    """Agent, sampler, and what a resumed run left beside them."""
    sampler = torch.Generator(device).manual_seed(config.seed)
    require_unbegun(config.out, resume=config.resume)
    if config.resume:
        agent, state = load_agent(config.out, device=device)
        require_pretrained(config.out, state)
        require_model_given(config.out, config.world_model, state)
        require_as_begun(config.out, config, BEGUN_WITH, free=("augment.force",))
        require_not_beyond(config.out, agent.updates, config.steps)
        dataset.spec.require_match(agent.spec, str(dataset.path), str(config.out), "Resume with the same --data.")
        require_same_logs(config.out, config.data, observation_stats(training), agent.stats)
        restore_generator(sampler, state["sampler"])
        return agent, sampler, state
    torch.manual_seed(config.seed)
    stats = observation_stats(training)
    return build_agent(config.agent, dataset.spec, stats, seed=config.seed, device=device), sampler, None


def _augmented(
    config: PretrainConfig, replay: Replay, agent: Agent, progress: dict[str, Tensor] | None
) -> TransitionSource:
    """The replay, or the replay and a world model."""
    if config.world_model is None:
        return replay
    source = augmented(replay, config.world_model, config.augment, agent)
    if progress is not None:
        source.load_state(progress)
    return source


def _split(dataset: Dataset, config: PretrainConfig, reward: RewardFn | None) -> tuple[Selection, Selection]:
    """Episodes to learn from and held-out ones; read from disk whenever they are gone through."""
    labels = dataset.successes()
    chosen = [i for i in range(len(dataset)) if labels[i] or not config.successes_only]
    if not chosen:
        raise ConfigError(
            f"--successes-only, but none of the {len(dataset)} episodes in {dataset.path} is labelled successful."
        )
    count = round(config.holdout * len(chosen))
    if config.holdout and not 0 < count < len(chosen):
        raise ConfigError(f"--holdout {config.holdout} of {len(chosen)} episodes leaves nothing on one side.")
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(config.seed)).tolist()
    held = set(order[:count])
    training = tuple(index for place, index in enumerate(chosen) if place not in held)
    return Selection(dataset, training, reward), Selection(dataset, tuple(chosen[p] for p in sorted(held)), reward)


def _open_env(config: PretrainConfig, dataset: Dataset) -> Env | None:
    name = config.env or dataset.spec.env_id
    if name in ("", "none"):
        return None
    env = make_env(name, **({} if config.episode_steps is None else {"max_episode_steps": config.episode_steps}))
    dataset.spec.require_match(
        env_spec(env),
        str(dataset.path),
        name,
        "Name the environment the logs come from with --env, or --env none.",
    )
    return env


def _evaluate(agent: Agent, env: Env, config: PretrainConfig) -> dict[str, float]:
    agent.eval()
    act = act_with(agent.policy, str(agent.device))
    found = rollout(env, act, episodes=config.eval_episodes, seed=config.seed + 10_000).scalars()
    agent.train()
    return found


@torch.no_grad()
def _action_error(agent: Agent, probe: Replay) -> float:
    agent.eval()
    batch: Batch = probe.sample(2048, torch.Generator(agent.device).manual_seed(0))
    unit: Callable[[Tensor], Tensor] = agent.scaler.to_unit
    error = (unit(agent.act(batch.obs)) - unit(batch.action)).square().mean().sqrt()
    agent.train()
    return float(error)


def _save(config: PretrainConfig, agent: Agent, sampler: torch.Generator, source: TransitionSource) -> None:
    augmentation = source.state() if isinstance(source, Augmented) else {}
    save_checkpoint(
        config.out,
        agent,
        algorithm=config.algorithm,
        agent_config=config.agent,
        train_config=config,
        progress={"sampler": sampler.get_state()} | augmentation,
    )


def _note(scalars: dict[str, float]) -> str:
    shown = [
        n for n in ("actor/loss", "critic/q", "holdout/action_error", "eval/return", "eval/success") if n in scalars
    ]
    return "  ".join(f"{n.split('/')[1]} {scalars[n]:.3g}" for n in shown)
