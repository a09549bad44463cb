"""`robot-rl serve`: run a bundle on an arm at its rate. Imports no torch."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from deploy.arms.arm import Arm
from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm, require_same_arm
from deploy.arms.schema import ArmConfig
from deploy.bundle.chunk import ChunkPlayer
from deploy.bundle.contract import require_fit
from deploy.bundle.policy import Policy
from deploy.control.controller import serve
from deploy.control.plan import Actor, ServePlan
from deploy.control.rate import Spread
from deploy.control.realtime import RealtimePlan, realtime
from deploy.control.report import Ending, ServeReport
from deploy.network.keys import DEFAULT_FOLDER, KeyFolder, Keys
from deploy.operator.station import Station, keys, socket_at
from deploy.recorder import Recorder, session_file
from deploy.safety.supervisor import Supervisor
from deploy.server.server import AT_ONCE, PolicyServer
from robot_rl.config import parse
from robot_rl.console import make_console, print_json, progress_bar
from robot_rl.errors import ConfigError
from robot_rl.interrupt import interrupt_sets

DESCRIPTION = """\
Run a policy bundle on an arm at control rate, behind the safety supervisor.

    robot-rl serve outputs/lift-bundle --arm robosuite_panda --episodes 10
    robot-rl serve outputs/reach-bundle --arm virtual --duration 60
    robot-rl serve outputs/reach-bundle --listen tcp://127.0.0.1:5760

--arm is a name in hardware_configs/ or a YAML file: joints, limits, rate, control mode. A bundle made for
other joints, another order, unit, rate or control mode is refused, saying what differs. A policy that plans
chunks of actions plays --replan-every of each before it plans anew. The session is
recorded to --record (MCAP; look at it with `robot-rl replay` or Foxglove, import it with `robot-rl data
import`). Ctrl-C or q brings the arm to rest and ends cleanly; s, space or SIGUSR1 is the emergency stop.
Exit status 0, or 2 when the supervisor latched a stop.

--listen drives no arm but answers other processes; beyond this machine with --key NAME, to allowed keys alone."""


PICTURES = (".png", ".svg", ".pdf", ".jpg")  # what matplotlib writes anywhere
OF_ARMS = (
    "env", "duration", "episodes", "episode_steps", "seed", "replan_every", "free_run", "record", "no_record",
    "wait_for_arm", "socket", "realtime", "core", "plot",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve a policy."""

    bundle: tyro.conf.Positional[Path]  # folder made by `robot-rl export`
    arm: str = ""  # name in hardware_configs/, or a .yaml file
    listen: str = ""  # serve actions to other processes instead: tcp://HOST:PORT (docs/policy_server.md)
    key: str = ""  # with --listen: name of the key pair from `robot-rl keys new`; needed beyond loopback
    keys: Path = DEFAULT_FOLDER  # with --listen: folder of keys
    batch: int = AT_ONCE  # with --listen: most observations in one call of the policy
    env: str = ""  # environment for a simulated arm; default the one in its file
    duration: float | None = None  # seconds of control time
    episodes: int | None = None  # of a simulated arm; 1 if --duration is not given either
    episode_steps: int | None = None  # time limit of a simulated episode, policy steps; default its own
    seed: int = 1_000_000  # of the first simulated episode; the i-th uses seed + i
    replan_every: int | None = None  # of a policy that plans chunks: actions played of each; default all
    free_run: bool = False  # as fast as the simulator goes instead of at control rate
    record: Path = Path("outputs/sessions")  # folder for the session's MCAP file
    no_record: bool = False  # do not record
    wait_for_arm: bool = False  # after a stop, hold until the operator arms again (key a, or the socket)
    socket: Path | None = None  # Unix socket for `robot-rl operator`
    realtime: bool = False  # ask for SCHED_FIFO and locked memory; says what the system refused
    core: int | None = None  # stay on this core
    plot: Path | None = None  # write a histogram of period and compute times, PNG
    json: bool = False  # one JSON object on standard output

    def __post_init__(self) -> None:
        if self.key and self.arm:
            raise ConfigError("--key is for --listen: an arm is driven from this process.")
        defaults = {f.name: f.default for f in fields(self)}
        for name in OF_ARMS if self.listen else ():
            if getattr(self, name) != defaults[name]:
                raise ConfigError(f"--{name.replace('_', '-')} is for --arm: with --listen nothing is driven.")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise ConfigError(f"--duration is {self.duration:g} s; it must be above 0, and finite.")
        if self.free_run and self.duration is not None and self.episodes is None:
            raise ConfigError("--free-run has no clock that --duration could follow. Give --episodes.")
        there = os.sched_getaffinity(0)
        if self.core is not None and self.core not in there:
            raise ConfigError(f"--core is {self.core}; this process may run on {', '.join(map(str, sorted(there)))}.")
        if self.plot is not None and self.plot.suffix.lower() not in PICTURES:
            raise ConfigError(f"--plot is {self.plot}; name a file that ends in {', '.join(PICTURES)}.")


def main(argv: Sequence[str]) -> int:
    """Parse, connect, serve, print."""
    config = parse(ServeConfig, argv, prog="robot-rl serve", description=DESCRIPTION)
    if bool(config.arm) == bool(config.listen):
        raise ConfigError("Give either --arm (to drive one) or --listen (to answer other processes).")
    if config.listen:
        return listen(config)
    report = run(config)
    if config.plot is not None:
        from deploy.control.plot import plot_timing  # noqa: PLC0415 - matplotlib takes half a second to import

        plot_timing(report, config.plot)
    if config.json:
        print_json(report.to_dict())
    else:
        print_report(make_console(), report)
    return 2 if report.ending is Ending.STOPPED else 0


def listen(config: ServeConfig) -> int:
    """Answer other processes until Ctrl-C."""
    policy = Policy.load(config.bundle)
    if policy.contract.chunk > 1:
        raise ConfigError(
            f"{config.bundle} plans {policy.contract.chunk} actions for one observation; --listen answers with one. "
            f"Give --arm, which plays them."
        )
    own = Keys(folder=KeyFolder(config.keys), own=config.key) if config.key else None
    server = PolicyServer(policy, config.listen, keys=own, at_once=config.batch)
    out, stop = make_console(stderr=True), threading.Event()
    whom = "allowed keys alone" if own else "this machine alone"
    out.print(f"answering at {server.address}, {whom}; Ctrl-C ends", markup=False, soft_wrap=True)
    try:
        with interrupt_sets(stop):
            server.run(stop)
    finally:
        server.close()
    answers, calls = dict(server.answered), server.desk.calls
    if config.json:
        print_json({"answered": answers, "policy_calls": calls})
    else:
        counted = ", ".join(f"{n:,} {what}" for what, n in answers.items()) or "nothing"
        out.print(f"answered: {counted}; {calls:,} calls of the policy", markup=False)
    return 0


def run(config: ServeConfig) -> ServeReport:
    """Serve as configured; the arm is closed whatever happens.

    Raises:
        BundleError, ConfigError, EnvError, LimitError, RecorderError, SpecMismatch: If something does not fit.
    """
    one = 1 if config.duration is None else None
    episodes = one if config.episodes is None else config.episodes
    policy = playable(Policy.load(config.bundle), config.replan_every)
    arm_config = load_arm(config.arm)
    plan = ServePlan(
        duration_s=config.duration,
        episodes=episodes,
        paced=not config.free_run,
        commands_per_step=arm_config.commands_per_step,
        interpolation=arm_config.interpolation,
        wait_for_arm=config.wait_for_arm,
    )
    arm = make_arm(arm_config, env_id=config.env, seed=config.seed, episode_steps=config.episode_steps)
    try:
        arm.connect()
        require_same_arm(arm_config, arm.spec)
        require_fit(policy.contract, arm.spec, f"{arm.name} ({config.env or arm_config.env or arm_config.driver})")
        with (
            _around(config, arm_config, arm, policy) as (station, recorder),
            progress_bar(hidden=config.json or episodes is None) as bar,
        ):
            task = bar.add_task("serving", total=episodes, note="Ctrl-C stops")
            report = serve(
                policy,
                arm,
                Supervisor(arm_config.limits()),
                plan,
                station=station,
                log=recorder,
                on_episode=lambda count: bar.update(task, completed=count),
            )
        return report if recorder is None else report.recorded_at(recorder.path)
    finally:
        arm.close()


def playable(policy: Policy, replan_every: int | None) -> Actor:
    """What the loop asks for single actions: the policy itself, or the player of its plans."""
    if policy.contract.chunk == 1 and replan_every is None:
        return policy
    return ChunkPlayer(policy, replan_every)


@contextmanager
def _around(
    config: ServeConfig, arm_config: ArmConfig, arm: Arm, policy: Actor
) -> Generator[tuple[Station, Recorder | None]]:
    """The operator's station, the recorder, and what the system gives for a steady tick."""
    station, said = Station(), make_console(stderr=True, quiet=config.json)
    with ExitStack() as stack:
        recorder = None
        if not config.no_record:
            file = session_file(config.record, arm.name, policy.contract.run)
            text = arm_config.to_yaml()
            recorder = stack.enter_context(
                Recorder(file, arm.spec, policy.contract, arm=text, env_id=config.env, wait=config.free_run)
            )
            said.print(f"recording to {file}", markup=False)
        stack.enter_context(socket_at(station, config.socket))
        stack.enter_context(keys(station))
        wishes = RealtimePlan(fifo=config.realtime, lock_memory=config.realtime, core=config.core)
        for line in stack.enter_context(realtime(wishes, None if recorder is None else recorder.thread_id)):
            said.print(line, markup=False)
        yield station, recorder


def print_report(console: Console, report: ServeReport) -> None:
    """Tick statistics and supervisor counts, as tables."""
    pace = f"{report.rate_hz:g} Hz" if report.paced else "as fast as it goes"
    title = f"{report.run} (version {report.weight_version}) on {report.arm}, {pace}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("microseconds", "min", "p50", "p99", "p99.9", "max"):
        table.add_column(column, justify="left" if column == "microseconds" else "right")
    rows: list[tuple[str, Spread]] = [("period", report.period)]
    if report.paced:
        rows.append(("lateness", report.lateness))
    rows += [("compute", report.compute), *((f"  {name}", s) for name, s in report.phases.items())]
    for name, spread in rows:
        numbers = (spread.min, spread.p50, spread.p99, spread.p999, spread.max)
        table.add_row(name, *(f"{value:,.0f}" for value in numbers))
    console.print(table)
    missed = f"{report.missed} deadlines missed" if report.paced else "no deadlines"
    console.print(f"{report.ending.value}: {report.ticks:,} ticks, {missed}")
    console.print("supervisor: " + ", ".join(f"{n:,} {name}" for name, n in report.verdicts.items()))
    for reason, count in report.reasons.items():
        console.print(f"  {count:,} ticks: {reason}")
    for cause in report.stop_causes:
        console.print(f"  [red]stopped[/]: {cause}")
    if report.episodes:
        success = "" if report.success_rate is None else f", success {report.success_rate:.0%}"
        mean = sum(report.returns) / report.episodes
        console.print(f"{report.episodes} episodes, mean return {mean:.2f}{success}")
    if report.recording is not None:
        console.print(f"recorded; robot-rl replay {report.recording} explains it", markup=False)
