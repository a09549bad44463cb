"""Fine-tuning where environment and learner take turns in one process: bit-reproducible.

The same schedule runs over the bridge, where actors never wait for the learner; this is the form for
benchmarks and for machines with one core. Checkpoints are made between episodes. Transitions go to the
run's replay log first; a resumed run cuts that log back to its checkpoint and so repeats, to the last
bit, what an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import threading

import torch

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.collect import Collector, ExploreFn
from robot_rl.console import progress_bar
from robot_rl.envs import Env, env_spec
from robot_rl.errors import CheckpointError
from robot_rl.evaluate import RecurrentAct
from robot_rl.experts import make_expert
from robot_rl.interrupt import interrupt_sets
from robot_rl.intervene import Intervened, ScriptedPilot
from robot_rl.nets.recurrent import RecurrentBehaviour
from robot_rl.online_run import FinetuneConfig, OnlineRun, open_env
from robot_rl.spec import Array

SHOWN = ("collect/success", "collect/return", "eval/success", "eval/return")


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
    run = OnlineRun(config)
    try:
        turns = _Turns(run)
    except BaseException:
        run.close()
        raise
    try:
        with progress_bar(hidden=quiet) as bar, interrupt_sets(stop):
            task = bar.add_task(config.algorithm, total=config.steps, completed=run.learner.interactions, note="")
            while not run.finished:
                if turns.collector.between_episodes and (stop.is_set() or run.checkpoint_due):
                    turns.save()
                    if stop.is_set():
                        raise KeyboardInterrupt(f"saved at interaction {run.saved_at}; go on with --resume")
                turns.step()
                if run.learner.interactions % 20 == 0:
                    bar.update(task, completed=run.learner.interactions, note=note(run.scalars))
            turns.save()
    finally:
        turns.close()
    return run.results


def note(scalars: dict[str, float]) -> str:
    """A line for progress bars."""
    return "  ".join(f"{name.replace('/', ' ')} {scalars[name]:.3g}" for name in SHOWN if name in scalars)


class _Turns:
    """One interaction, then the updates that it asks for."""

    def __init__(self, run: OnlineRun) -> None:
        self.run = run
        config, spec = run.config, run.learner.agent.spec
        self._env = open_env(config, spec)
        self._pilot = _pilot(config, self._env)
        stepped = self._env if self._pilot is None else Intervened(self._env, self._pilot)
        self.collector = Collector(
            stepped,
            spec,
            seed=config.seed * 1_000_000,
            reward=run.reward,
            noise_memory=config.noise_memory,
            untrained=config.untrained,
        )
        self._session = hashlib.sha256(f"turns {config.seed}".encode()).digest()[:16]
        self._explore = act_with_noise(run.learner.agent)
        self._metrics: Metrics = {}
        if run.state is not None:
            if "episode" not in run.state:
                raise CheckpointError(
                    f"{config.out} was made with actors, whose transitions cannot be repeated. Resume it without "
                    f"--in-turns, or choose another --out."
                )
            self.collector.episode = int(run.state["episode"])
            run.log.truncate(run.learner.interactions)
            if self._pilot is not None:
                self._pilot.interactions = run.learner.interactions
        else:
            self.save()  # so that a run that is killed at once can be resumed
        if run.unseen:
            run.evaluate()

    def step(self) -> None:
        run, config, learner = self.run, self.run.config, self.run.learner
        rows, ended = self.collector.step(self._explore, learner.agent.version)
        run.log.append(self._session, learner.interactions, rows)
        learner.take(rows)
        for _ in range(learner.owed):
            self._metrics = learner.update()
        if ended is not None:
            run.recent.add(ended.return_, ended.success)
        if learner.interactions % config.log_every == 0:
            run.write_metrics(self._metrics)
        if learner.interactions % config.eval_every == 0 or run.finished:
            run.evaluate()

    def save(self) -> None:
        self.run.save({"episode": torch.tensor(self.collector.episode)})

    def close(self) -> None:
        self.run.close()
        self._env.close()


def _pilot(config: FinetuneConfig, env: Env) -> ScriptedPilot | None:
    if not config.intervene_share:
        return None
    spec = env_spec(env)
    expert = make_expert(spec.env_id, spec, noise=0.0)
    return ScriptedPilot(
        expert, share=config.intervene_share, until=config.intervene_until, steps=config.intervene_steps
    )


def act_with_noise(agent: Agent) -> ExploreFn:
    """The agent's exploring policy as a function on numpy vectors: observation, noise -> action."""
    device, behaviour = agent.device, agent.behaviour
    if isinstance(behaviour, RecurrentBehaviour):
        return RecurrentAct(behaviour, str(device))

    @torch.inference_mode()
    def explore(obs: Array, noise: Array) -> Array:
        agent.eval()  # dropout belongs to the updates
        action = behaviour(torch.from_numpy(obs)[None].to(device), torch.from_numpy(noise)[None].to(device))
        agent.train()
        return action[0].cpu().numpy()

    return explore
