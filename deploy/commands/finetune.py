"""`robot-rl finetune`: online fine-tuning with one command."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from deploy.bridge.learner import LearnerHub
from deploy.bridge.spool import waiting
from deploy.network.address import checked_address
from deploy.network.keys import KeyFolder, Keys
from deploy.online.dashboard import Dashboard
from deploy.online.learner import LearnerConfig, is_done, learn
from deploy.online.place import require_arm
from deploy.teleop.device import Handheld
from robot_rl.algorithms.registry import CONFIGS
from robot_rl.algorithms.student import Student, StudentConfig
from robot_rl.checkpoint import TRAIN_CONFIG, load_agent, read_json, resolve
from robot_rl.commands.pretrain import with_interval
from robot_rl.config import chosen_kind, load_yaml, parse
from robot_rl.console import key_value_table, make_console
from robot_rl.errors import BridgeError, ConfigError
from robot_rl.finetune import finetune
from robot_rl.interrupt import interrupt_sets
from robot_rl.online_run import FinetuneConfig, OnlineRun
from robot_rl.spec import Spec

DESCRIPTION = """Fine-tune a policy online, on this machine:
`robot-rl finetune awac|iql|sac|td3-bc --start RUN --out RUN2`, or, from the logs of other tasks,
`robot-rl finetune latent-sac|dreamer --transfer TEACHER --env ID --out RUN`.

Starts a learner and --actors processes that step the environment beside it; a simulator pauses where it is
--max-lead interactions ahead of the updates, an arm never does. With --in-turns, environment and learner take
turns in one process, with exactly --utd updates an interaction and results that repeat to the last bit.
`robot-rl learner` and `robot-rl actor` start the ends apart.

--start takes a pretrained run: with the same learner everything is carried over, with another one its actor.
Without it, sac with --data is RLPD. Logged data stay in every batch (--offline-share). At first the policy
only collects (--warmup), at random where nothing was pretrained; then come updates of the critics alone
(--critic-warmup), then --utd updates an interaction. With --teleop keyboard, gamepad or spacemouse a person
takes over whenever they move the device; --intervene-share lets the environment's scripted expert do so.
Ctrl-C saves; --resume goes on."""

LAST_WORDS_S = 10.0


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand(LearnerConfig):
    """Fine-tune a policy online."""

    bind: str = "tcp://127.0.0.1:*"  # address for actors; * takes a free port
    actors: int = 1  # actor processes
    arm: str = ""  # collect on this arm (name in hardware_configs/, or a .yaml file); its episodes are the evaluation
    socket: Path | None = None  # with --arm: Unix socket for `robot-rl operator`
    teleop: Handheld | None = None  # with which a person takes over from the first actor's policy
    in_turns: bool = False  # no actors: environment and learner take turns, reproducibly
    max_lead: int = 1_000  # interactions that simulators may be ahead of the updates, then they pause; 0: any number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.actors < 1:
            raise ConfigError(f"--actors is {self.actors}; it must be at least 1 (or give --in-turns).")
        if self.actors > 1 and isinstance(self.agent, StudentConfig):
            raise ConfigError(
                f"--actors {self.actors}: {self.algorithm} learns from pieces of episodes, which the steps of several "
                f"actors in turns would break. Use one."
            )
        if self.arm and (self.in_turns or self.actors > 1):
            raise ConfigError(
                f"--arm {self.arm} is driven by one actor in real time: leave out --in-turns and --actors."
            )
        if self.teleop and (self.in_turns or self.intervene_share):
            raise ConfigError(
                f"--teleop {self.teleop} is a person's: leave out --in-turns, which repeats to the last bit, and "
                f"--intervene-share, which is the scripted expert's."
            )
        require_arm(self.socket, self.arm)


def main(argv: Sequence[str]) -> int:
    """Parse, fine-tune, and say where things are."""
    config = parse(
        FinetuneCommand,
        argv,
        prog="robot-rl finetune",
        description=DESCRIPTION,
        defaults=defaults_of_start(list(argv)),
    )
    if config.arm:
        config = replace(config, eval_episodes=0)
    if config.arm or config.teleop:  # an arm's time, and a person's, is dearer than the learner's
        config = replace(config, max_lead=0)
    console = make_console()
    if config.in_turns:
        print_results(console, config, finetune(config), done=True)
        return 0
    stop = threading.Event()
    crew = _Crew(config, stop)
    try:
        with interrupt_sets(stop):
            results, done = serve_actors(config, stop, started=crew.start)
    finally:
        crew.end()
    print_results(console, config, results, done=done)
    return 0 if done else 130


def serve_actors(
    config: LearnerConfig,
    stop: threading.Event,
    *,
    quiet: bool = False,
    started: Callable[[str, Spec], Callable[[], None]] = lambda _address, _spec: lambda: None,
) -> tuple[dict[str, float], bool]:
    """Run a learner.

    Args:
        config: Options.
        stop: Set to save and end.
        quiet: No dashboard.
        started: Given address and spec once actors can connect; returns what is called some times a second, such as a
            look at whether local actors still live.

    Returns:
        The last evaluation's scalars, and whether all interactions were taken.
    """
    torch.set_num_threads(config.threads)
    checked_address(config.bind, keyed=bool(config.key))  # before anything is written
    keys = Keys(folder=KeyFolder(config.keys), own=config.key) if config.key else None
    run = OnlineRun(config)
    try:
        hub = LearnerHub(config.bind, run.log, keys=keys)
        try:
            with Dashboard(f"{config.algorithm} -> {config.out}", config.steps, quiet=quiet) as dashboard:
                watch = started(hub.address, run.learner.agent.spec)
                results = learn(run, hub, config, stop=stop, show=dashboard.show, watch=watch)
        finally:
            hub.close()
        return results | run.recent.scalars(), is_done(run, config)
    finally:
        run.close()


def defaults_of_start(argv: list[str]) -> dict[str, Any]:
    """What --start gives: the reward it was trained with, and the learner's options where that is the same learner.

    Another learner that may squash its mean or clip it does as the actor of --start.
    """
    name = chosen_kind(argv, CONFIGS, key="algorithm", what="a learner", default="awac")
    file = _value_of(argv, "--config")
    start = _value_of(argv, "--start") or (load_yaml(Path(file)).get("start") if file else None)
    options: Any = CONFIGS[name]()
    if not start:
        return {"agent": options}
    former = load_agent(Path(start))[0]
    if type(former.cfg) is type(options):
        options = former.cfg
    elif hasattr(options, "squash_mean") and not isinstance(former, Student):
        options = replace(options, squash_mean=former.squashes)
    reward = read_json(resolve(Path(start)) / TRAIN_CONFIG).get("reward", "logged")
    return {"agent": options, "reward": reward}


def print_results(console: Console, config: FinetuneConfig, results: dict[str, float], *, done: bool) -> None:
    """Where the run is and how its last evaluation went."""
    rows = {"run": str(config.out), "curve": str(config.out / "learning_curve.png")}
    for name, form in (("eval/return", "{:.1f}"), ("eval/success", "{:.0%}")):
        if name in results:
            rows[name.removeprefix("eval/")] = with_interval(results, name, form)
    for name, form in (("collect/return", "{:.1f}"), ("collect/success", "{:.0%}")):
        if not config.eval_episodes and name in results:
            rows[f"{name.removeprefix('collect/')}, last 20 episodes, exploring"] = form.format(results[name])
    title = (
        f"{config.algorithm}, {config.steps:,} interactions" if done else f"{config.algorithm}, interrupted and saved"
    )
    console.print(key_value_table(title, rows))
    follow = (
        f"Next: robot-rl evaluate {config.out}   or   robot-rl export {config.out} --out BUNDLE"
        if done
        else "Go on with the same command and --resume."
    )
    console.print(follow, markup=False)


class _Crew:
    """The local actor processes."""

    def __init__(self, config: FinetuneCommand, stop: threading.Event) -> None:
        self._config, self._stop = config, stop
        self._processes: list[subprocess.Popen[bytes]] = []
        self._terminal = termios.tcgetattr(sys.stdin) if config.teleop and sys.stdin.isatty() else None

    def start(self, address: str, spec: Spec) -> Callable[[], None]:
        """Start them; returns the check that they live.

        Raises:
            ConfigError: If an actor that is not started has transitions that the learner lacks.
        """
        folder = self._config.out / "actors"
        folder.mkdir(parents=True, exist_ok=True)
        self._require_all_spools(folder, spec)
        env_id = self._config.env or spec.env_id
        for number in range(self._config.actors):
            with (folder / f"{number}.log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen(
                        self._command(number, address, env_id),
                        stdout=log,
                        stderr=log,
                        stdin=None if self._at_the_controls(number) else subprocess.DEVNULL,
                    )
                )
        return self.check

    def check(self) -> None:
        """Raise if an actor has ended by a fault; once all were ended, as by an arm's operator, end the run too."""
        for number, process in enumerate(self._processes):
            if process.poll() not in (None, 0, 130):
                log = self._config.out / "actors" / f"{number}.log"
                last = " ".join(log.read_text(errors="replace").split()[-60:])
                raise BridgeError(f"Actor {number} ended with status {process.returncode}: {last} (see {log})")
        if all(process.poll() is not None for process in self._processes):
            self._stop.set()

    def end(self) -> None:
        """Ask them to end, then insist."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(2)
        for process in self._processes:
            try:
                process.wait(LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._terminal is not None:  # an actor that was killed could not give it back
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)

    def _require_all_spools(self, folder: Path, spec: Spec) -> None:
        for number in sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir()):
            left = waiting(folder / str(number), spec) if number >= self._config.actors else 0
            if left:
                raise ConfigError(
                    f"{folder / str(number)} holds {left:,} transitions that its actor had not delivered, and --actors "
                    f"{self._config.actors} does not start it. Resume with --actors {number + 1}, or move that folder "
                    f"away to go on without them."
                )

    def _at_the_controls(self, number: int) -> bool:
        return bool(self._config.teleop) and number == 0

    def _command(self, number: int, address: str, env_id: str) -> list[str]:
        config = self._config
        spool = config.out / "actors" / f"{number}"
        words = [sys.executable, "-P", "-m", "robot_rl.cli", "actor", "--connect", address, "--spool", str(spool)]
        words += ["--name", f"actor {number}", "--reward", config.reward]
        words += ["--child-of", str(os.getpid())]  # killed outright, this process could not end it
        words += ["--noise-memory", str(config.noise_memory)]
        words += ["--untrained"] if config.untrained and not config.arm else []
        place = config.env if config.arm else env_id  # an arm's file names its simulator
        words += ["--env", place] if place else []
        words += ["--arm", config.arm] if config.arm else []
        words += ["--socket", str(config.socket)] if config.socket else []
        words += ["--seed", str(int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0]) // 2)]
        if self._at_the_controls(number):
            words += ["--teleop", str(config.teleop)]
        elif config.intervene_share:
            until = -(-config.intervene_until // config.actors)  # each sees its part of the interactions
            words += ["--teleop", "scripted", "--intervene-share", str(config.intervene_share)]
            words += ["--intervene-until", str(until), "--intervene-steps", str(config.intervene_steps)]
        if config.episode_steps is not None:
            words += ["--episode-steps", str(config.episode_steps)]
        return words


def _value_of(argv: list[str], option: str) -> str | None:
    for i, word in enumerate(argv):
        if word == option and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None
