"""`robot-rl serve`: run a bundle on an arm at its rate. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm, require_same_arm
from deploy.contract import require_fit
from deploy.controller import ServePlan, serve
from deploy.policy import Policy
from deploy.rate import Spread
from deploy.report import Ending, ServeReport
from deploy.safety.supervisor import Supervisor
from robot_rl.config import parse
from robot_rl.console import print_json, progress_bar
from robot_rl.errors import ConfigError

DESCRIPTION = """\
Run a policy bundle on an arm at control rate, behind the safety supervisor.

    robot-rl serve outputs/lift-bundle --arm robosuite_panda --episodes 10
    robot-rl serve outputs/reach-bundle --arm virtual --duration 60

--arm is a name in hardware_configs/ or a YAML file: joints, limits, rate, control mode. A bundle made for
other joints, another order, unit, rate or control mode is refused, saying what differs. Ctrl-C brings the
arm to rest and ends cleanly. Exit status 0, or 2 when the supervisor latched a stop."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve a policy."""

    bundle: tyro.conf.Positional[Path]  # folder made by `robot-rl export`
    arm: str  # name in hardware_configs/, or a .yaml file
    env: str = ""  # environment for a simulated arm; default the one in its file
    duration: float | None = None  # seconds of control time
    episodes: int | None = None  # of a simulated arm; 1 if --duration is not given either
    episode_steps: int | None = None  # time limit of a simulated episode, control steps; default its own
    seed: int = 1_000_000  # of the first simulated episode; the i-th uses seed + i
    free_run: bool = False  # as fast as the simulator goes instead of at control rate
    plot: Path | None = None  # write a histogram of period and compute times, PNG
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, connect, serve, print."""
    config = parse(ServeConfig, argv, prog="robot-rl serve", description=DESCRIPTION)
    report = run(config)
    if config.plot is not None:
        from deploy.plot import plot_timing  # noqa: PLC0415 - matplotlib takes half a second to import

        plot_timing(report, config.plot)
    if config.json:
        print_json(report.to_dict())
    else:
        print_report(Console(highlight=False), report)
    return 2 if report.ending is Ending.STOPPED else 0


def run(config: ServeConfig) -> ServeReport:
    """Serve as configured; the arm is closed whatever happens.

    Raises:
        BundleError, ConfigError, EnvError, LimitError, SpecMismatch: If something does not fit.
    """
    if config.free_run and config.duration is not None and config.episodes is None:
        raise ConfigError("--free-run has no clock that --duration could follow. Give --episodes.")
    one = 1 if config.duration is None else None
    episodes = one if config.episodes is None else config.episodes
    plan = ServePlan(duration_s=config.duration, episodes=episodes, paced=not config.free_run)
    policy = Policy.load(config.bundle)
    arm_config = load_arm(config.arm)
    arm = make_arm(arm_config, env_id=config.env, seed=config.seed, episode_steps=config.episode_steps)
    try:
        arm.connect()
        require_same_arm(arm_config, arm.spec)
        require_fit(policy.contract, arm.spec, f"{arm.name} ({config.env or arm_config.env})")
        with progress_bar(hidden=config.json or episodes is None) as bar:
            task = bar.add_task("serving", total=episodes, note="Ctrl-C stops")
            return serve(
                policy,
                arm,
                Supervisor(arm_config.limits()),
                plan,
                on_episode=lambda count: bar.update(task, completed=count),
            )
    finally:
        arm.close()


def print_report(console: Console, report: ServeReport) -> None:
    """Tick statistics and supervisor counts, as tables."""
    pace = f"{report.rate_hz:g} Hz" if report.paced else "as fast as it goes"
    title = f"{report.run} (version {report.weight_version}) on {report.arm}, {pace}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("microseconds", "p50", "p99", "max"):
        table.add_column(column, justify="left" if column == "microseconds" else "right")
    rows: list[tuple[str, Spread]] = [("period", report.period)]
    if report.paced:
        rows.append(("lateness", report.lateness))
    rows += [("compute", report.compute), *((f"  {name}", s) for name, s in report.phases.items())]
    for name, spread in rows:
        table.add_row(name, f"{spread.p50:,.0f}", f"{spread.p99:,.0f}", f"{spread.max:,.0f}")
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
