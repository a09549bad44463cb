"""`robot-rl actor`: collect for a learner. Imports no torch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from deploy.bridge.actor import ActorLink
from deploy.bridge.spool import SpoolOptions
from deploy.network.address import DEFAULT_ADDRESS
from deploy.network.keys import DEFAULT_FOLDER, KeyFolder, Keys
from deploy.online.actor import act
from deploy.online.place import open_place, require_arm, spoken_to
from deploy.operator.station import Station
from deploy.teleop.device import HANDHELD, TeleopName
from deploy.teleop.open import Seat, Takeovers, seated
from robot_rl.collect import Collector, Finished
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.data.reward import RewardRule, reward_fn
from robot_rl.envs import env_spec
from robot_rl.errors import ConfigError
from robot_rl.interrupt import interrupt_sets, orphaned_sets
from robot_rl.intervene import Intervened, require_takeovers
from robot_rl.spec import Spec

DESCRIPTION = """\
Step an environment by the learner's newest policy and deliver every transition to it.

    robot-rl actor --env AdroitHandPen-v1 --spool outputs/pen/spool

Start it before or after the learner, stop it, start it again: transitions wait in --spool until the learner
has stored them. On an arm of hardware_configs/, behind its safety supervisor:

    robot-rl actor --arm franka_fr3 --spool outputs/fr3/spool

With --teleop keyboard, gamepad or spacemouse a person takes over whenever they move the device: their
actions are executed, marked and learned from as demonstrations. --teleop scripted stands in for one.

The actor stands still while the learner pauses or the policy is older than
--max-policy-age. Beyond this machine: --connect tcp://HOST:PORT --key NAME --learner NAME."""

REPORT_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Collect for a learner."""

    env: str = ""  # Gymnasium id; with --arm the environment of a simulated arm, default the one in its file
    arm: str = ""  # act on this arm instead: name in hardware_configs/, or a .yaml file
    spool: Path  # folder that keeps transitions until the learner has stored them
    connect: str = DEFAULT_ADDRESS  # the learner's address
    name: str = "actor"  # shown at the learner
    seed: int = 0  # of episodes and exploration; give each actor its own
    episode_steps: int | None = None  # time limit of episodes; default the environment's
    reward: RewardRule = "logged"  # "goal", "progress" or "classifier:RUN"; as the learner has it
    noise_memory: float = 0.0  # correlation of successive exploration noise, [0, 1); 0.9 suits rates of 50 Hz and more
    untrained: bool = False  # act at random, uniformly, until the learner's first update: nothing was pretrained
    teleop: TeleopName | None = None  # with which a person takes over; "scripted": the environment's expert
    intervene_share: float = 0.0  # with --teleop scripted: share of the steps taken over, in [0, 1]
    intervene_until: int = 0  # this actor's interactions over which that share falls to 0; 0 keeps it
    intervene_steps: int = 20  # control steps of such a takeover
    steps: int | None = None  # most control steps; default until the learner ends the run
    paced: bool = False  # keep the control rate instead of running as fast as the simulator goes
    socket: Path | None = None  # with --arm: Unix socket for `robot-rl operator`
    max_policy_age: float = 30.0  # s; stand still when the policy was last known to be the newest longer ago; 0 never
    sync_ms: float = 100.0  # a power cut loses at most this much, ms; 0 syncs every transition on the tick
    spool_mib: int = 2048  # most that may wait for the learner, MiB; beyond it the actor stops
    key: str = ""  # name of this actor's key pair from `robot-rl keys new`; needed beyond loopback
    learner: str = ""  # name of the learner's key, as it was allowed here
    keys: Path = DEFAULT_FOLDER  # folder of keys
    child_of: int | None = None  # process id of the one that starts this actor: end when that one is gone
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if not self.max_policy_age >= 0:
            raise ConfigError(f"--max-policy-age is {self.max_policy_age:g} s; it must be 0 (never) or more.")
        if not 0 <= self.sync_ms < math.inf:
            raise ConfigError(f"--sync-ms is {self.sync_ms:g} ms; it must be 0 (each transition) or more, and finite.")
        if self.spool_mib < 1:
            raise ConfigError(f"--spool-mib is {self.spool_mib} MiB; it must be 1 or more.")
        if self.arm and self.untrained:
            raise ConfigError(f"--untrained is for simulators: arm {self.arm} would be driven at random. Leave it out.")
        require_arm(self.socket, self.arm)
        require_takeovers(self.intervene_share, self.intervene_until, self.intervene_steps)
        if (self.teleop == "scripted") != bool(self.intervene_share):
            raise ConfigError(
                f"--teleop {self.teleop or 'none'} and --intervene-share {self.intervene_share:g} do not go together: "
                f"the share is the scripted expert's, and it needs one above 0."
            )
        if bool(self.key) != bool(self.learner):
            raise ConfigError("--key and --learner belong together: the names of this actor's key and the learner's.")


def main(argv: Sequence[str]) -> int:
    """Parse, connect, collect, report."""
    config = parse(ActorConfig, argv, prog="robot-rl actor", description=DESCRIPTION)
    if not config.env and not config.arm:
        raise ConfigError("Say where to act: --env ID or --arm NAME.")
    by_hand = config.teleop in HANDHELD
    console = make_console(stderr=True, quiet=config.quiet)
    stop, said = threading.Event(), [time.monotonic()]
    station = Station()
    station.ending = stop
    env, arm = open_place(
        config.env, config.arm, station=station, episode_steps=config.episode_steps, paced=config.paced or by_hand
    )
    spec = env_spec(env)
    own_keys = Keys(folder=KeyFolder(config.keys), own=config.key, peer=config.learner) if config.key else None
    link = ActorLink(
        config.connect,
        config.spool,
        spec,
        max_policy_age_s=config.max_policy_age or math.inf,
        keys=own_keys,
        name=config.name,
        options=SpoolOptions(sync_ms=config.sync_ms, limit_bytes=config.spool_mib * 2**20),
    )

    if arm is not None:
        arm.rehearsal = link.rehearse

    def on_hold(reason: str) -> None:
        console.print(f"{config.name} stands still: {reason}" if reason else f"{config.name} goes on", markup=False)
        station.status = reason or "running"
        if reason and arm is not None:
            arm.hold()

    def on_episode(ended: Finished) -> None:
        if time.monotonic() - said[0] > REPORT_EVERY_S:
            said[0] = time.monotonic()
            console.print(
                f"{config.name}: {link.taken:,} transitions, {link.backlog:,} to deliver, "
                f"policy {link.policy_version}, return {ended.return_:.1f}",
                markup=False,
            )

    try:
        with ExitStack() as stack:
            seat = stack.enter_context(_seat(config, spec, link.taken))
            if seat is not None:
                console.print(f"{config.name}: {config.teleop} takes over. {seat.help}", markup=False)
            # The session's own numbers keep a restarted actor from living through the same episodes again.
            collector = Collector(
                env if seat is None else Intervened(env, seat.pilot),
                spec,
                seed=config.seed,
                reward=reward_fn(config.reward, env),
                episode=link.taken,
                noise_memory=config.noise_memory,
                untrained=config.untrained,
            )
            stack.enter_context(interrupt_sets(stop))
            if config.child_of is not None:
                orphaned_sets(stop, config.child_of)
            hear = None if seat is None else seat.hear
            stack.enter_context(spoken_to(station, arm=arm is not None, socket=config.socket, hear=hear))
            report = act(
                link,
                collector,
                stop=stop,
                steps=config.steps,
                rate_hz=spec.rate_hz if (config.paced or by_hand) and arm is None else 0.0,
                waits=(lambda: "") if arm is None else (lambda: arm.waits),
                on_hold=on_hold,
                on_episode=on_episode,
            )
        if arm is not None:
            arm.close()  # before anything that takes time: nobody commands it any more
        link.drain(2.0)
        report.undelivered = link.backlog
    finally:
        try:
            env.close()
        finally:
            link.close()
    console.print(
        f"{config.name}: {report.ending}; {report.interactions:,} interactions, {report.episodes:,} episodes, "
        f"{report.held_s:.1f} s standing still, {report.undelivered:,} transitions wait in {config.spool}",
        markup=False,
    )
    return 0


def _seat(config: ActorConfig, spec: Spec, taken: int) -> AbstractContextManager[Seat | None]:
    """Whoever may take over, where somebody may."""
    if config.teleop is None:
        return nullcontext()
    plan = Takeovers(
        share=config.intervene_share, until=config.intervene_until, steps=config.intervene_steps, since=taken
    )
    return seated(config.teleop, spec, arm=bool(config.arm), always=False, takeovers=plan)
