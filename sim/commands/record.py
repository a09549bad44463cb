"""The part of `robot-rl record` that needs nobody: demonstrations from a scripted expert."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from robot_rl.console import after_data, make_console, print_json, progress_bar
from robot_rl.data.dataset import write_dataset
from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode, feed
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.experts import make_expert
from sim.demonstrate import demonstrate, demonstrations


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """Demonstrations from a scripted expert."""

    env_id: Annotated[str, tyro.conf.Positional]  # Gymnasium id, such as robosuite/Lift-v1
    out: Path  # dataset folder to write; must not exist yet
    episodes: int = 50  # how many to keep, at least 1
    noise: float = 0.1  # std of Gaussian noise on the arm's action, 1 is full scale
    noises: tuple[float, ...] = ()  # several, which episodes take in turn, in place of --noise: logs of mixed quality
    pause: float = 0.0  # chance at each step of standing still for 2 to 6 steps, in [0, 1]
    seed: int = 0  # attempt i starts from seed + i
    episode_steps: int = 300  # give an attempt up after so many control steps
    after_success: int = 5  # control steps to go on after success
    only_successes: bool = False  # leave failed attempts out and try again with the next seed
    json: bool = False  # print one JSON object instead of text


class Tally:
    """Counts attempts for the progress bar and the summary."""

    def __init__(self) -> None:
        self.attempts = self.kept = self.successes = self.steps = self.kept_steps = 0
        self._digest = hashlib.sha256()
        self._start = time.perf_counter()

    def add(self, episode: Episode, kept: bool) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.successes += bool(episode.success)
        self.steps += len(episode)
        self.kept += kept
        self.kept_steps += len(episode) * kept
        if kept:
            feed(self._digest.update, episode)

    def summary(self) -> dict[str, Any]:
        """Figures to print."""
        seconds = time.perf_counter() - self._start
        return {
            "episodes": self.kept,
            "steps": self.kept_steps,
            "mean_length": self.kept_steps / max(self.kept, 1),
            "attempts": self.attempts,
            "success_share": self.successes / max(self.attempts, 1),
            "steps_per_second": self.steps / seconds,
            "seconds": seconds,
            "sha256": self._digest.hexdigest(),
        }


def record(config: RecordConfig) -> int:
    """Record demonstrations; returns the exit status.

    Raises:
        ConfigError: If a number is outside its range, or the folder exists.
        EnvError: If the environment has no expert, or its expert keeps failing.
    """
    check(config)
    require_new(config.out, error=ConfigError)
    console = make_console(stderr=config.json)
    hint = " (compiles for some 20 s when it runs for the first time)" if "robosuite" in config.env_id else ""
    console.print(f"starting {config.env_id}{hint}")
    tally = _record(config)
    figures = tally.summary()
    if config.json:
        print_json({"out": str(config.out), **figures})
        return 0
    console.print(
        f"{figures['episodes']} episodes, {figures['steps']} steps "
        f"({figures['mean_length']:.0f} an episode) in [bold]{config.out}[/]\n"
        f"the expert succeeded in {figures['success_share']:.0%} of {figures['attempts']} attempts; "
        f"{figures['steps_per_second']:.0f} steps/s, {figures['seconds']:.0f} s\n"
        f"sha256 of what was recorded: {figures['sha256']}\n"
        f"{after_data(config.out)}"
    )
    return 0


def _record(config: RecordConfig) -> Tally:
    env = make_env(config.env_id, max_episode_steps=config.episode_steps)
    spec = env_spec(env)
    levels = _levels(config)
    experts = [make_expert(config.env_id, spec, noise=noise, pause=config.pause) for noise in levels]
    tally = Tally()
    with progress_bar(hidden=config.json) as progress:
        bar = progress.add_task("recording", total=config.episodes, note="")

        def attempt(seed: int) -> Episode:
            turn = (seed - config.seed) % len(levels)
            episode = demonstrate(env, spec, experts[turn], seed=seed, after_success=config.after_success)
            return replace(episode, source=f"{episode.source}:noise={levels[turn]:g}") if config.noises else episode

        def done(episode: Episode, kept: bool) -> None:
            tally.add(episode, kept)
            now = tally.summary()
            rate = f"{now['steps_per_second']:.0f} steps/s, success {now['success_share']:.0%}"
            progress.update(bar, advance=int(kept), note=rate)

        episodes = demonstrations(
            attempt,
            episodes=config.episodes,
            seed=config.seed,
            only_successes=config.only_successes,
            done=done,
        )
        origin = f"expert:{config.env_id}"
        write_dataset(config.out, spec, episodes, origin=origin, notes=(_recipe(config),))
    env.close()
    return tally


def _levels(config: RecordConfig) -> tuple[float, ...]:
    return config.noises or (config.noise,)


def _recipe(config: RecordConfig) -> str:
    noise = ", ".join(f"{level:g}" for level in _levels(config)) + (" in turn" if config.noises else "")
    return (
        f"scripted expert, noise {noise}, pause {config.pause:g}, seed {config.seed}, at most "
        f"{config.episode_steps} steps, {config.after_success} steps after success"
        + (", failures left out" if config.only_successes else "")
    )


def check(config: RecordConfig) -> None:
    """Refuse numbers outside their ranges.

    Raises:
        ConfigError: Naming option, value and range.
    """
    ranges: dict[str, tuple[float, float, float]] = {
        "episodes": (config.episodes, 1, float("inf")),
        "episode-steps": (config.episode_steps, 1, float("inf")),
        "after-success": (config.after_success, 0, float("inf")),
        "noise": (config.noise, 0, float("inf")),
        "noises": (min(config.noises, default=0.0), 0, float("inf")),
        "pause": (config.pause, 0, 1),
        "seed": (config.seed, 0, float("inf")),
    }
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise ConfigError(f"--{name} is {value:g}; it must be between {low:g} and {high:g}.")
