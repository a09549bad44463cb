"""`robot-rl bench safety`: random command streams against the supervisor, judged by other code than its own.

Each stream arms at a random pose and then asks for something every tick: wandering targets, jumps, huge
numbers, NaN and infinity, motion straight at a wall of the workspace box; with old, future or broken
measurements, stops and re-arming mixed in. What leaves is judged after the stream with numpy: position,
speed and acceleration by differences, the tool by matrices of the kinematic chain.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import ArmState
from deploy.arms.config import load_arm
from deploy.safety.decision import Verdict
from deploy.safety.kinematics import Kinematics
from deploy.safety.limits import Limits
from deploy.safety.supervisor import Supervisor
from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.errors import LimitError

DESCRIPTION = """Throw random command streams at the safety supervisor and count the commands that break a limit:
there must be none. Writes the table with --out."""

Floats = NDArray[np.float64]
ASKS = ("wander", "jump", "huge", "not finite", "at the wall")
DISTURBANCES = ("stale", "future", "nan", "fast", "outside", "stop", "arm")
DISTURBED = 0.12  # share of ticks
SLACK = 1e-6  # relative, for rounding
LONGEST = 24  # ticks of a stream
LONGEST_AT_WALL = 60
POSES = 500  # to start from


@dataclass(frozen=True, kw_only=True)
class SafetyBenchConfig:
    """Benchmark of the supervisor's promises."""

    streams: int = 100_000  # over all arms and kinds
    arms: tuple[str, ...] = ("virtual", "robosuite_panda")  # whose limits
    seed: int = 0  # of the streams
    out: Path | None = None  # write the table here, Markdown
    json: bool = False  # one JSON object on standard output


@dataclass
class Tally:
    """What one kind of stream on one arm brought."""

    streams: int = 0
    ticks: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter[Verdict])
    broken: Counter[str] = field(default_factory=Counter[str])
    worst: dict[str, float] = field(default_factory=dict[str, float])  # largest share of a limit

    def judge(self, name: str, shares: Floats) -> None:
        """Note values relative to their limit, which is 1."""
        self.worst[name] = max(self.worst.get(name, 0.0), float(shares.max(initial=0.0)))
        self.broken[name] += int((shares > 1.0 + SLACK).sum())


def main(argv: Sequence[str]) -> int:
    """Parse, run, print; exit status 1 if a limit was broken."""
    config = parse(SafetyBenchConfig, argv, prog="robot-rl bench safety", description=DESCRIPTION)
    start = time.perf_counter()
    tallies = run(config)
    seconds = time.perf_counter() - start
    broken = sum(sum(t.broken.values()) for t in tallies.values())
    text = table(tallies, config, seconds)
    if config.out is not None:
        config.out.write_text(text)
    if config.json:
        rows = {f"{arm}/{kind}": _plain(t) for (arm, kind), t in tallies.items()}
        print_json({"broken": broken, "seconds": seconds, "rows": rows})
    else:
        make_console().print(text, markup=False, soft_wrap=True)
    return 1 if broken else 0


def run(config: SafetyBenchConfig) -> dict[tuple[str, str], Tally]:
    """Every kind of stream on every arm, in equal shares."""
    rng = np.random.default_rng(config.seed)
    share = -(-config.streams // (len(config.arms) * len(ASKS)))
    tallies: dict[tuple[str, str], Tally] = {}
    for arm in config.arms:
        limits = load_arm(arm).limits()
        supervisor, starts = Supervisor(limits), start_poses(limits, POSES, rng)
        for kind in ASKS:
            tally = tallies[arm, kind] = Tally()
            for _ in range(share):
                i = rng.integers(len(starts[0]))
                stream(supervisor, limits, kind, (starts[0][i], starts[1][i]), rng, tally)
    return tallies


def stream(  # noqa: PLR0917 - each is needed once
    supervisor: Supervisor,
    limits: Limits,
    kind: str,
    start: tuple[Floats, Floats],
    rng: np.random.Generator,
    tally: Tally,
) -> None:
    """One stream: arm at joints and tool `start`, ask, and judge what left."""
    ticks = int(rng.integers(4, (LONGEST_AT_WALL if kind == "at the wall" else LONGEST) + 1))
    pose, tool = start
    supervisor.arm(_state(pose, tool), 0.0)
    asked = asks(kind, limits, pose, ticks, rng)
    odd = np.where(rng.random(ticks) < DISTURBED, rng.integers(0, len(DISTURBANCES), ticks), -1)
    joints = limits.control == "joint_position"
    commands, tools = [pose.copy() if joints else np.zeros(7)], [tool]
    for k in range(ticks):
        at = commands[-1] if joints else pose
        what = DISTURBANCES[odd[k]] if odd[k] >= 0 else ""
        if what == "stop":
            supervisor.stop()
        if what == "arm" and supervisor.at_rest:
            _arm_again(supervisor, _state(at, tools[-1]))
        decision = supervisor.check(_disturbed(what, limits, at, tools[-1]), asked[k], 0.0)
        tally.verdicts[decision.verdict] += 1
        commands.append(decision.command.copy())
        tools.append(tools[-1] if joints else _followed(limits, tools[-1], commands[-1], rng))
    tally.streams += 1
    tally.ticks += ticks
    if joints:
        judge_joints(limits, np.array(commands), tally)
    else:
        judge_tool(limits, np.array(commands), np.array(tools), tally)


def start_poses(limits: Limits, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Joints within the soft limits, (N, J), and tool positions inside the box by its margin, (N, 3)."""
    joints, tool = limits.joints, limits.tool
    margin = joints.soft_margin
    size = (count, len(joints.names))
    poses = rng.uniform(joints.low + margin, joints.high - margin, size)
    if limits.kinematics is None or tool is None:
        low, high = (np.zeros(3), np.ones(3)) if tool is None else (tool.workspace_low, tool.workspace_high)
        return poses, rng.uniform(low, high, (count, 3))
    at = tool_by_matrices(limits.kinematics, poses)
    inside = (at >= tool.workspace_low + tool.soft_margin) & (at <= tool.workspace_high - tool.soft_margin)
    kept = inside.all(axis=1)
    return poses[kept], at[kept]


def asks(kind: str, limits: Limits, pose: Floats, ticks: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """What a policy asks, (ticks, A)."""
    joints = limits.control == "joint_position"
    size = len(pose) if joints else 7
    centre = pose if joints else np.zeros(size)
    step = limits.joints.velocity / limits.rate_hz if joints else np.full(size, 0.3)
    scale = float(10.0 ** rng.uniform(-2, 1))
    match kind:
        case "wander":
            asked = centre + np.cumsum(rng.normal(0, scale, (ticks, size)) * step, axis=0)
        case "at the wall":
            asked = centre + np.arange(1, ticks + 1)[:, None] * rng.normal(0, 1, size) * step * scale
        case "jump":
            asked = centre + rng.normal(0, 1, (ticks, size)) * rng.choice([0.0, 0.1, 1.0, 4.0], (ticks, 1))
        case _:
            asked = centre + rng.normal(0, 1, (ticks, size)) * 10.0 ** rng.uniform(-3, 38, (ticks, 1))
    if kind == "not finite":
        bad = rng.random((ticks, size)) < 0.08
        asked[bad] = rng.choice([np.nan, np.inf, -np.inf], int(bad.sum()))
    return np.clip(asked, -3e38, 3e38).astype(np.float32) if kind != "not finite" else _single(asked)


def judge_joints(limits: Limits, commands: Floats, tally: Tally) -> None:
    """Position, speed, acceleration and the tool's place of commands, (T+1, J); the first is the start.

    Arming again happens at rest and where the last command was, so differences run through it.
    """
    joints, dt = limits.joints, 1.0 / limits.rate_hz
    tally.broken["not finite"] += int((~np.isfinite(commands)).sum())
    low, high = joints.low + joints.soft_margin, joints.high - joints.soft_margin
    tally.judge("position", np.abs(commands - (high + low) / 2) / ((high - low) / 2))
    speed = np.diff(commands, axis=0, prepend=commands[:1]) / dt
    tally.judge("speed", np.abs(speed) / (joints.velocity * joints.velocity_share))
    bend = np.diff(speed, axis=0) / dt
    tally.judge("acceleration", np.abs(bend) / joints.acceleration)
    if limits.kinematics is not None and limits.tool is not None:
        at = tool_by_matrices(limits.kinematics, commands)
        low, high = limits.tool.workspace_low, limits.tool.workspace_high
        tally.judge("workspace", np.abs(at - (high + low) / 2) / ((high - low) / 2))


def judge_tool(limits: Limits, commands: Floats, tools: Floats, tally: Tally) -> None:
    """Bounds, speed and the goal's place of tool actions, (T+1, 7); the first is rest."""
    tool, dt = limits.tool, 1.0 / limits.rate_hz
    if tool is None:
        raise LimitError("Tool actions need tool limits.")
    tally.broken["not finite"] += int((~np.isfinite(commands)).sum())
    tally.judge("position", np.abs(commands))
    tally.judge("speed", np.linalg.norm(commands[:, :3], axis=1) * tool.metres_per_unit / (tool.speed * dt))
    tally.judge("speed", np.linalg.norm(commands[:, 3:6], axis=1) * tool.radians_per_unit / (tool.turn_rate * dt))
    goal = tools[:-1] + tool.metres_per_unit * commands[1:, :3]
    low, high = tool.workspace_low, tool.workspace_high
    tally.judge("workspace", np.abs(goal - (high + low) / 2) / ((high - low) / 2))


def tool_by_matrices(kinematics: Kinematics, joints: Floats) -> Floats:
    """Tool positions, (N, 3), by 4x4 matrices: another way than the supervisor's."""
    pose = np.broadcast_to(np.eye(4), (len(joints), 4, 4))
    for (a, alpha, d), theta in zip(kinematics.dh, joints.T, strict=True):
        c, s, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        link = np.zeros((len(joints), 4, 4))
        link[:, 0] = np.stack([c, -s, 0 * c, 0 * c + a], axis=1)
        link[:, 1] = np.stack([s * ca, c * ca, 0 * c - sa, 0 * c - sa * d], axis=1)
        link[:, 2] = np.stack([s * sa, c * sa, 0 * c + ca, 0 * c + ca * d], axis=1)
        link[:, 3, 3] = 1.0
        pose = pose @ link
    return (pose @ np.array([*kinematics.tool, 1.0]))[:, :3]


def table(tallies: dict[tuple[str, str], Tally], config: SafetyBenchConfig, seconds: float) -> str:
    """The result as Markdown."""
    judged = ("position", "speed", "acceleration", "workspace")
    head = ["arm", "asked", "streams", "ticks", *(v.value for v in Verdict), *(f"{j}, worst" for j in judged), "broken"]
    rows = [head, ["---"] * len(head)]
    for (arm, kind), t in tallies.items():
        worst = [f"{t.worst[j]:.6f}" if j in t.worst else "not promised" for j in judged]
        counts = [f"{t.verdicts[v]:,}" for v in Verdict]
        rows.append([arm, kind, f"{t.streams:,}", f"{t.ticks:,}", *counts, *worst, str(sum(t.broken.values()))])
    lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    streams, ticks = sum(t.streams for t in tallies.values()), sum(t.ticks for t in tallies.values())
    broken = sum(sum(t.broken.values()) for t in tallies.values())
    return f"""# Random command streams against the safety supervisor

`robot-rl bench safety --streams {config.streams} --seed {config.seed}`: {streams:,} streams, {ticks:,} ticks,
**{broken} commands that break a limit**. {DISTURBED:.0%} of the ticks are disturbed: {", ".join(DISTURBANCES)}.
"Worst" is the largest value that left as a share of its limit; above 1.000001 counts as broken. Joint arms are
judged by their soft position limits and by the walls of the box, tool arms by action bounds and the goal's place.

{lines}

{seconds:.0f} s.
"""


def _state(joints: Floats, tool: Floats, **changed: Any) -> ArmState:
    values: dict[str, Any] = {"obs": np.zeros(1, np.float32), "dq": np.zeros(len(joints)), "stamp_s": 0.0}
    return ArmState(q=joints, tool=tool, **(values | changed))


def _disturbed(what: str, limits: Limits, joints: Floats, tool: Floats) -> ArmState:
    match what:
        case "stale":
            return _state(joints, tool, stamp_s=-2.0 * limits.stale_after_s)
        case "future":
            return _state(joints, tool, stamp_s=1.0)
        case "nan":
            return _state(joints, tool, obs=np.array([np.nan], np.float32))
        case "fast":
            return _state(joints, tool, dq=limits.joints.velocity * 1.1)
        case "outside":
            return _state(limits.joints.high + 0.1, tool)
        case _:
            return _state(joints, tool)


def _arm_again(supervisor: Supervisor, state: ArmState) -> None:
    """Where the tool is just outside, arming is rightly refused."""
    try:
        supervisor.arm(state, 0.0)
    except LimitError:
        return


def _followed(limits: Limits, tool: Floats, command: Floats, rng: np.random.Generator) -> Floats:
    """Where a compliant arm brings the tool: some share of the way."""
    scale = 0.0 if limits.tool is None else limits.tool.metres_per_unit
    return tool + rng.uniform(0, 1) * scale * command[:3]


def _single(values: Floats) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _plain(tally: Tally) -> dict[str, Any]:
    return {
        "streams": tally.streams,
        "ticks": tally.ticks,
        "verdicts": {v.value: n for v, n in tally.verdicts.items()},
        "broken": dict(tally.broken),
        "worst": tally.worst,
    }
