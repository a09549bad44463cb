"""Where the tool is, and keeping it in its box."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from deploy.arms.arm import ArmState
from deploy.arms.config import load_arm
from deploy.safety.box_guard import BoxGuard
from deploy.safety.decision import Reason, Verdict
from deploy.safety.kinematics import Kinematics
from deploy.safety.limits import GripperLimits, JointLimits, Limits, ToolLimits
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import LimitError
from sim.mj import mujoco
from sim.virtual_arm import load_model

PLANAR = Kinematics(dh=((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)), tool=(0.5, 0.0, 0.0))  # two links in a plane
DT = 0.02


def planar_limits(jerk: float | None = None, gripper: GripperLimits | None = None) -> Limits:
    return Limits(
        control="joint_position",
        rate_hz=1 / DT,
        joints=JointLimits(
            names=("shoulder", "elbow"),
            low=np.full(2, -3.0),
            high=np.full(2, 3.0),
            velocity=np.full(2, 2.0),
            acceleration=np.full(2, 10.0),
            soft_margin=0.0,
            jerk=None if jerk is None else np.full(2, jerk),
        ),
        tool=ToolLimits(
            workspace_low=np.array([-2.0, -1.0, -1.0]),
            workspace_high=np.array([2.0, 1.0, 1.0]),
            speed=10.0,
            turn_rate=10.0,
            metres_per_unit=1.0,
            radians_per_unit=1.0,
            soft_margin=0.1,
        ),
        stale_after_s=1.0,
        ramp_s=0.0,
        stop_after_bad=3,
        kinematics=PLANAR,
        gripper=gripper,
    )


def seen(*q: float, gripper: float = math.nan) -> ArmState:
    tool = np.array(PLANAR.tool_at(q))
    return ArmState(np.zeros(1, np.float32), np.array(q), np.zeros(len(q)), tool, 0.0, gripper)


def armed(limits: Limits, state: ArmState) -> Supervisor:
    supervisor = Supervisor(limits)
    supervisor.arm(state, 0.0)
    return supervisor


def test_planar_arm_by_hand() -> None:
    assert PLANAR.tool_at((0.0, 0.0)) == pytest.approx((1.5, 0.0, 0.0))
    assert PLANAR.tool_at((math.pi / 2, 0.0)) == pytest.approx((0.0, 1.5, 0.0))
    assert PLANAR.tool_at((0.0, math.pi / 2)) == pytest.approx((1.0, 0.5, 0.0))
    sideways, up = PLANAR.levers()
    assert sideways == (1.5, 0.5)
    assert up == (0.0, 0.5)  # an upright first joint lifts nothing


def test_virtual_arm_s_kinematics_are_its_model_s() -> None:
    kinematics, model = load_arm("virtual").limits().kinematics, load_model()
    assert kinematics is not None
    data = mujoco.MjData(model)
    for q in np.random.default_rng(0).uniform(model.jnt_range[:, 0], model.jnt_range[:, 1], (50, 7)):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        assert kinematics.tool_at(q.tolist()) == pytest.approx(data.site("tool").xpos.tolist(), abs=1e-6)


def test_a_lever_bounds_how_far_a_joint_moves_the_tool() -> None:
    kinematics = load_arm("virtual").limits().kinematics
    assert kinematics is not None
    sideways, _ = kinematics.levers()
    rng = np.random.default_rng(1)
    for _ in range(200):
        q = rng.uniform(-3, 3, 7)
        for i, lever in enumerate(sideways):
            turned = q.copy()
            turned[i] += 0.01
            moved = math.dist(kinematics.tool_at(q.tolist()), kinematics.tool_at(turned.tolist()))
            assert moved <= lever * 0.01 + 1e-12


def test_the_tool_stops_in_front_of_the_wall_and_comes_back() -> None:
    supervisor = armed(planar_limits(), seen(0.0, 0.0))
    heights: list[float] = []
    for _ in range(200):  # asks for y = 1.5, the wall is at 1.0, its margin at 0.9
        decision = supervisor.check(seen(0.0, 0.0), np.array([1.57, 0.0]), 0.0)
        heights.append(PLANAR.tool_at(decision.command.tolist())[1])
    assert max(heights) <= 0.9 + 1e-9
    assert heights[-1] > 0.8
    assert decision.verdict is Verdict.LIMITED
    wall = next(f for f in decision.findings if f.reason is Reason.WORKSPACE)
    assert (wall.where, wall.limit) == ("y", 1.0)
    for _ in range(200):
        decision = supervisor.check(seen(0.0, 0.0), np.array([0.0, 0.0]), 0.0)
    assert decision.verdict is Verdict.PASSED


def test_from_inside_the_margin_the_tool_may_only_lead_out() -> None:
    start = math.asin(0.95 / 1.5)  # y = 0.95: in the margin
    supervisor = armed(planar_limits(), seen(start, 0.0))
    still = supervisor.check(seen(start, 0.0), np.array([start, 0.0]), 0.0)
    assert still.verdict is Verdict.PASSED
    up = [supervisor.check(seen(start, 0.0), np.array([1.5, 0.0]), 0.0).command.tolist() for _ in range(20)]
    assert max(PLANAR.tool_at(q)[1] for q in up) <= 0.95 + 1e-9
    down = [supervisor.check(seen(start, 0.0), np.array([0.3, 0.0]), 0.0).command.tolist() for _ in range(60)]
    assert down[-1][0] == pytest.approx(0.3, abs=1e-6)


def test_fault_counts_braking() -> None:
    box = BoxGuard(PLANAR, planar_limits().tool, planar_limits().joints, DT)  # type: ignore[arg-type]
    box.start((0.0, 0.0))
    assert box.fault((0.0, 0.0), (0.0, 0.0)) is None
    # 2.2 rad/s at 10 rad/s^2 turn by 0.242 rad, times 1.5 m: 0.363 m to come; at y = 0.65 only 0.35 m are left
    at = math.asin(0.65 / 1.5)
    box.start((at, 0.0))
    assert box.fault((at, 0.0), (1.0, 0.0)) is None
    fault = box.fault((at, 0.0), (2.2, 0.0))
    assert fault is not None
    assert fault.where == "y"


def test_arming_refuses_kinematics_that_are_not_the_arm_s() -> None:
    state = replace(seen(0.3, 0.2), tool=np.array([1.0, 0.0, 0.0]))
    with pytest.raises(LimitError, match=r"kinematics place the tool at .*the arm measures \(1\.000, 0\.000, 0\.000\)"):
        armed(planar_limits(), state)


def test_jerk_is_kept_where_nothing_stands_in_the_way() -> None:
    jerk = 100.0
    supervisor = armed(planar_limits(jerk=jerk), seen(0.0, 0.0))
    track = [[0.0, 0.0]] * 3
    found = set[Reason]()
    for k in range(60):
        decision = supervisor.check(seen(0.0, 0.0), np.array([0.3 * (1 - math.cos(k * 0.08)), 0.0]), 0.0)
        track.append(decision.command.tolist())
        found |= {f.reason for f in decision.findings}
    third = np.diff(track, n=3, axis=0) / DT**3
    assert np.abs(third).max() <= jerk * (1 + 1e-6)
    assert Reason.JERK in found


def test_gripper_keeps_range_and_speed_and_holds_its_width() -> None:
    supervisor = armed(planar_limits(gripper=GripperLimits(low=0.0, high=0.08, speed=0.1)), seen(0, 0, gripper=0.04))

    def ask(width: float) -> float:
        return float(supervisor.check(seen(0, 0, gripper=0.04), np.array([0.0, 0.0, width]), 0.0).command[2])

    assert ask(0.041) == pytest.approx(0.041)
    assert ask(1.0) == pytest.approx(0.043)  # 0.1 m/s in 0.02 s
    assert [ask(1.0) for _ in range(40)][-1] == pytest.approx(0.08)
    supervisor.stop()
    assert ask(0.0) == pytest.approx(0.08)
    with pytest.raises(LimitError, match="gripper width"):
        supervisor.arm(seen(0, 0), 0.0)
