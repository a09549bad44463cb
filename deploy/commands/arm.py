"""`robot-rl arm check CONFIG`: connect, look, compare with the file; move nothing unless asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from deploy.arms.arm import Arm, ArmState
from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm, require_same_arm
from deploy.arms.schema import ArmConfig
from deploy.control.home import drive_home
from deploy.control.rate import Pacer, Spread
from deploy.safety.supervisor import Supervisor
from robot_rl.config import nearest, parse
from robot_rl.console import key_value_table, make_console, print_json
from robot_rl.errors import ArmError, ArmFaultError, ConfigError, LimitError

DESCRIPTION = """Connect to an arm, read its state for a while, and compare joints, order, limits, rates and tool
position with its file. Moves nothing, unless --home asks for a slow drive to the file's home pose behind the
supervisor, or --recover for the vendor's error recovery.

    robot-rl arm check franka_fr3"""


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Check an arm."""

    arm: tyro.conf.Positional[str]  # name in hardware_configs/, or a .yaml file
    seconds: float = 2.0  # how long to read
    recover: bool = False  # first clear reflexes and errors, where the vendor offers it
    home: bool = False  # MOVES THE ARM: drive slowly to the home pose afterwards
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Find the sub-command and run it."""
    verbs = {"check": check}
    if not argv or argv[0] in ("-h", "--help"):
        make_console().print(f"usage: robot-rl arm check CONFIG [options]\n\n{DESCRIPTION}", markup=False)
        return 0 if argv else 2
    if argv[0] not in verbs:
        raise ConfigError(f"No command 'arm {argv[0]}'.{nearest(argv[0], verbs)}")
    return verbs[argv[0]](argv[1:])


def check(argv: Sequence[str]) -> int:
    """`robot-rl arm check CONFIG`; exit status 2 where the arm and its file disagree."""
    config = parse(CheckConfig, argv, prog="robot-rl arm check", description=DESCRIPTION)
    arm_config = load_arm(config.arm)
    arm = make_arm(arm_config)
    try:
        _connect(arm, recover=config.recover)
        require_same_arm(arm_config, arm.spec)
        states, gaps = _watch(arm, arm_config, config.seconds)
        facts, wrong = judge(arm_config, states, gaps)
        if config.home and not wrong:
            facts["home"] = drive_home(arm, arm_config)
    finally:
        arm.close()
    if config.json:
        print_json({"arm": arm_config.name, "ok": not wrong, "wrong": wrong, **facts})
    else:
        out = make_console()
        out.print(key_value_table(arm_config.name, facts))
        for text in wrong:
            out.print(f"[red]wrong[/] {text}")
        out.print("the arm fits its file" if not wrong else f"{len(wrong)} disagreements: correct the file or the arm")
    return 2 if wrong else 0


def judge(config: ArmConfig, states: list[ArmState], gaps: Spread) -> tuple[dict[str, str], list[str]]:
    """What was seen, and what disagrees with the file.

    Args:
        config: The arm's file.
        states: What was read.
        gaps: Between new measurements, microseconds.
    """
    last, limits = states[-1], config.limits()
    wrong: list[str] = []
    if len(last.q) != len(config.joints):
        wrong.append(f"the arm has {len(last.q)} joints, the file {len(config.joints)}")
    period_s = 1.0 / (config.command_rate_hz or config.rate_hz)
    if not gaps.p50 / 1e6 <= 1.1 * period_s:
        wrong.append(
            f"a new measurement every {gaps.p50 / 1e3:.1f} ms, slower than the period of {period_s * 1e3:.1f} ms"
        )
    facts = {
        "joints": ", ".join(f"{n} {v:+.3f}" for n, v in zip(limits.joints.names, last.q.tolist(), strict=False))
        + " rad",
        "fastest joint": f"{np.abs(last.dq).max():.4f} rad/s",
        "new measurements": f"every {gaps.p50 / 1e3:.2f} ms (p99 {gaps.p99 / 1e3:.2f} ms)",
        "limits": f"margin {config.soft_margin_rad:g} rad, {config.velocity_share:.0%} of the datasheet's speeds",
        "source": config.source,
    }
    if last.tool is not None:
        facts["tool"] = ", ".join(f"{v:+.3f}" for v in last.tool.tolist()) + " m"
        if limits.kinematics is not None:
            model = limits.kinematics.tool_at(last.q.tolist())
            apart = math.dist(model, last.tool.tolist())
            facts["tool by the file's dh"] = ", ".join(f"{v:+.3f}" for v in model) + f" m, {apart * 1e3:.1f} mm apart"
    try:
        if not wrong:
            Supervisor(limits).arm(last, last.stamp_s)
    except LimitError as error:
        wrong.append(str(error))
    return facts, wrong


def _connect(arm: Any, *, recover: bool) -> None:
    try:
        arm.connect()
    except ArmFaultError:
        if not recover:
            raise
    if recover:
        _recover(arm)


def _recover(arm: Any) -> None:
    recover = getattr(arm, "recover", None)
    if recover is None or not recover():
        raise ArmError(f"{arm.name} cannot recover by itself. Use the vendor's program.")


def _watch(arm: Arm, config: ArmConfig, seconds: float) -> tuple[list[ArmState], Spread]:
    """Read at four times the command rate; states, and the gaps between new ones."""
    pacer = Pacer(4 * (config.command_rate_hz or config.rate_hz), ())
    states: list[ArmState] = []
    stamps: list[float] = []
    while not states or pacer.ticks < pacer.rate_hz * seconds:
        pacer.wait()
        state = arm.read()
        states.append(state)
        if not stamps or state.stamp_s != stamps[-1]:
            stamps.append(state.stamp_s)
    return states, Spread.of(np.diff(stamps) * 1e6)
