"""`robot-rl actor`: collect for a learner. Imports no torch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.actor import act
from deploy.bridge.actor import ActorLink
from deploy.bridge.spool import SpoolOptions
from deploy.network.address import DEFAULT_ADDRESS
from deploy.network.keys import DEFAULT_FOLDER, KeyFolder, Keys
from robot_rl.collect import Collector, Finished
from robot_rl.config import parse
from robot_rl.data.reward import RewardRule, reward_fn
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.interrupt import interrupt_sets

DESCRIPTION = """\
Step an environment by the learner's newest policy and deliver every transition to it.

    robot-rl actor --env AdroitHandPen-v1 --spool outputs/pen/spool

Start it before or after the learner, stop it, start it again: transitions wait in --spool until the learner
has stored them. The actor stands still while the learner pauses or the policy is older than
--max-policy-age. Beyond this machine: --connect tcp://HOST:PORT --key NAME --learner NAME."""

REPORT_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Collect for a learner."""

    env: str  # Gymnasium id
    spool: Path  # folder that keeps transitions until the learner has stored them
    connect: str = DEFAULT_ADDRESS  # the learner's address
    name: str = "actor"  # shown at the learner
    seed: int = 0  # of episodes and exploration; give each actor its own
    episode_steps: int | None = None  # time limit of episodes; default the environment's
    reward: RewardRule = "logged"  # or what observations show: "goal", "progress"; as the learner has it
    steps: int | None = None  # most control steps; default until the learner ends the run
    paced: bool = False  # keep the control rate instead of running as fast as the simulator goes
    max_policy_age: float = 30.0  # s; stand still when the policy was last known to be the newest longer ago; 0 never
    sync_ms: float = 100.0  # a power cut loses at most this much, ms; 0 syncs every transition on the tick
    spool_mib: int = 2048  # most that may wait for the learner, MiB; beyond it the actor stops
    key: str = ""  # name of this actor's key pair from `robot-rl keys new`; needed beyond loopback
    learner: str = ""  # name of the learner's key, as it was allowed here
    keys: Path = DEFAULT_FOLDER  # folder of keys
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if self.max_policy_age < 0:
            raise ConfigError(f"--max-policy-age is {self.max_policy_age:g} s; it must be 0 (never) or more.")
        if bool(self.key) != bool(self.learner):
            raise ConfigError("--key and --learner belong together: the names of this actor's key and the learner's.")


def main(argv: Sequence[str]) -> int:
    """Parse, connect, collect, report."""
    config = parse(ActorConfig, argv, prog="robot-rl actor", description=DESCRIPTION)
    console = Console(stderr=True, highlight=False, quiet=config.quiet)
    env = make_env(config.env, **({} if config.episode_steps is None else {"max_episode_steps": config.episode_steps}))
    spec = env_spec(env)
    stop, said = threading.Event(), [time.monotonic()]
    keys = Keys(folder=KeyFolder(config.keys), own=config.key, peer=config.learner) if config.key else None
    link = ActorLink(
        config.connect,
        config.spool,
        spec,
        max_policy_age_s=config.max_policy_age or math.inf,
        keys=keys,
        name=config.name,
        options=SpoolOptions(sync_ms=config.sync_ms, limit_bytes=config.spool_mib * 2**20),
    )

    def on_hold(reason: str) -> None:
        console.print(f"{config.name} stands still: {reason}" if reason else f"{config.name} goes on", markup=False)

    def on_episode(ended: Finished) -> None:
        if time.monotonic() - said[0] > REPORT_EVERY_S:
            said[0] = time.monotonic()
            console.print(
                f"{config.name}: {link.taken:,} transitions, {link.backlog:,} to deliver, "
                f"policy {link.policy_version}, return {ended.return_:.1f}",
                markup=False,
            )

    try:
        # The session's own numbers keep a restarted actor from living through the same episodes again.
        collector = Collector(env, spec, seed=config.seed, reward=reward_fn(config.reward, env), episode=link.taken)
        with interrupt_sets(stop):
            report = act(
                link,
                collector,
                stop=stop,
                steps=config.steps,
                rate_hz=spec.rate_hz if config.paced else 0.0,
                on_hold=on_hold,
                on_episode=on_episode,
            )
        link.drain(2.0)
        report.undelivered = link.backlog
    finally:
        link.close()
        env.close()
    console.print(
        f"{config.name}: {report.ending}; {report.interactions:,} interactions, {report.episodes:,} episodes, "
        f"{report.held_s:.1f} s standing still, {report.undelivered:,} transitions wait in {config.spool}",
        markup=False,
    )
    return 0
