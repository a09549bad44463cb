from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.arms.arm import ArmState
from deploy.arms.config import load_arm
from deploy.safety.decision import Decision, Finding, Reason, Verdict
from deploy.safety.limits import JointLimits, Limits, ToolLimits
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ConfigError, LimitError

DT = 0.02
SLACK = 1e-9
JOINTS = JointLimits(
    names=("shoulder", "elbow"),
    low=np.array([-1.0, 0.0]),
    high=np.array([1.0, 2.0]),
    velocity=np.array([2.0, 4.0]),
    acceleration=np.array([10.0, 5.0]),
    soft_margin=0.1,
    velocity_share=0.5,
)
LOW, HIGH = JOINTS.low + 0.1, JOINTS.high - 0.1
SPEED = JOINTS.velocity * 0.5
HOME = np.array([0.0, 1.0])
TOOL = ToolLimits(
    workspace_low=np.array([-0.5, -0.5, 0.0]),
    workspace_high=np.array([0.5, 0.5, 1.0]),
    speed=1.0,
    turn_rate=5.0,
    metres_per_unit=0.05,
    radians_per_unit=0.5,
)


def limits(control: str = "joint_position", ramp_s: float = 0.0, tool: ToolLimits | None = None) -> Limits:
    return Limits(
        control=control,
        rate_hz=1 / DT,
        joints=JOINTS,
        tool=tool or (TOOL if control == "osc_pose" else None),
        stale_after_s=0.05,
        ramp_s=ramp_s,
        stop_after_bad=3,
    )


def state(
    q: object = HOME,
    dq: object = (0.0, 0.0),
    tool: object = (0.0, 0.0, 0.5),
    obs: object = (0.0,),
    stamp_s: float = 0.0,
) -> ArmState:
    number = np.asarray(q, np.float64), np.asarray(dq, np.float64), np.asarray(tool, np.float64)
    return ArmState(np.asarray(obs, np.float32), *number, stamp_s)


def armed(control: str = "joint_position", **options: float) -> Supervisor:
    supervisor = Supervisor(limits(control, **options))
    supervisor.arm(state(), 0.0)
    return supervisor


def ask(supervisor: Supervisor, *action: float, seen: ArmState | None = None, now_s: float = 0.0) -> Decision:
    return supervisor.check(seen or state(), np.array(action, np.float32), now_s)


def reasons(decision: Decision) -> set[Reason]:
    return {f.reason for f in decision.findings}


def numbers() -> st.SearchStrategy[float]:
    wild = st.sampled_from([math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e9, 0.0, 1.0, -1.0])
    return st.one_of(wild, st.floats(-3, 3, width=32), st.floats(width=32))


# Streams: jumps, small steps, NaN, infinities, huge numbers; old and broken measurements; stops; re-arming.
TICK = st.tuples(
    st.lists(numbers(), min_size=2, max_size=2),
    st.sampled_from(["ok"] * 12 + ["stale", "nan", "future", "fast", "outside", "stop", "arm"]),
)


def broken(kind: str, position: np.ndarray) -> ArmState:
    match kind:
        case "stale":
            return state(position, stamp_s=-0.06)
        case "future":
            return state(position, stamp_s=1.0)
        case "nan":
            return state(position, obs=(math.nan,))
        case "fast":
            return state(position, dq=(2.1, 0.0))
        case "outside":
            return state((1.2, 1.0))
        case _:
            return state(position)


@settings(max_examples=300)
@given(st.lists(TICK, min_size=1, max_size=60), st.sampled_from([0.0, 0.3]))
def test_no_joint_command_leaves_that_breaks_a_limit(stream: list[tuple[list[float], str]], ramp_s: float) -> None:
    supervisor = armed(ramp_s=ramp_s)
    last, speed = HOME.copy(), np.zeros(2)
    for asked, kind in stream:
        if kind == "stop":
            supervisor.stop()
        if kind == "arm" and supervisor.at_rest:  # from where it stands, as an operator would
            supervisor.arm(state(last), 0.0)
        decision = ask(supervisor, *asked, seen=broken(kind, last))
        command = decision.command.copy()
        assert np.isfinite(command).all()
        assert (command >= LOW - SLACK).all()
        assert (command <= HIGH + SLACK).all()
        now = (command - last) / DT
        assert (np.abs(now) <= SPEED + 1e-7).all()
        assert (np.abs(now - speed) <= JOINTS.acceleration * DT + 1e-7).all()
        assert bool(decision.findings) == (decision.verdict is not Verdict.PASSED)
        if decision.verdict is Verdict.PASSED:
            np.testing.assert_array_equal(command, np.asarray(asked, np.float32))
        last, speed = command, now


@settings(max_examples=100)
@given(st.lists(TICK, min_size=1, max_size=30))
def test_a_rehearsal_changes_no_decision(stream: list[tuple[list[float], str]]) -> None:
    plain, rehearsed = armed(ramp_s=0.3), armed(ramp_s=0.3)
    for asked, kind in stream:
        seen = broken(kind, HOME)
        rehearsed.rehearse(seen, np.asarray(asked[::-1], np.float32), 0.0)
        one, other = ask(plain, *asked, seen=seen), ask(rehearsed, *asked, seen=seen)
        np.testing.assert_array_equal(one.command, other.command)
        assert str(one[1:]) == str(other[1:])  # as text, in which NaN equals NaN
        assert (plain.verdicts, plain.reasons, plain.stopped) == (
            rehearsed.verdicts,
            rehearsed.reasons,
            rehearsed.stopped,
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_a_rehearsal_survives_what_the_check_refuses(bad: float) -> None:
    limits = load_arm("virtual").limits()  # with kinematics, whose cosines refuse infinity
    supervisor, middle = Supervisor(limits), (limits.joints.low + limits.joints.high) / 2
    home = ArmState(np.zeros(1, np.float32), middle, np.zeros(7), None, 0.0)
    supervisor.arm(home, 0.0)
    seen = replace(home, q=np.full(7, bad))
    for _ in range(2):
        supervisor.rehearse(seen, np.zeros(7), 0.0)
        assert supervisor.check(seen, middle, 0.0).verdict is not Verdict.PASSED


@settings(max_examples=200)
@given(st.lists(numbers(), min_size=7, max_size=7), st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=2))
def test_no_tool_command_leaves_that_breaks_a_limit(asked: list[float], at: list[float]) -> None:
    supervisor = armed("osc_pose")
    position = np.array([*at, 0.02])
    command = ask(supervisor, *asked, seen=state(tool=position)).command
    assert np.isfinite(command).all()
    assert (np.abs(command) <= 1.0).all()
    assert np.linalg.norm(command[:3]) * 0.05 <= 1.0 * DT + SLACK
    assert np.linalg.norm(command[3:6]) * 0.5 <= 5.0 * DT + SLACK
    goal = position + 0.05 * command[:3]
    assert (goal >= TOOL.workspace_low - SLACK).all()
    assert (goal <= TOOL.workspace_high + SLACK).all()


def test_smooth_motion_passes_unchanged() -> None:
    supervisor = armed()
    for k in range(200):  # 0.3 rad at 0.5 Hz: at most 0.94 rad/s and 2.96 rad/s^2
        target = np.array([0.3, 0.0]) * (1 - math.cos(math.pi * k * DT)) / 2 + HOME
        decision = ask(supervisor, *target)
        assert decision.verdict is Verdict.PASSED
        np.testing.assert_allclose(decision.command, target, atol=1e-7)
    assert supervisor.reasons == {}


def test_jump_is_followed_at_the_limits_and_lands_without_overshoot() -> None:
    supervisor = armed()
    first = ask(supervisor, 0.8, 1.0)
    assert first.command[0] == pytest.approx(10.0 * DT * DT)  # from rest: a dt^2
    assert first.findings == (Finding(Reason.VELOCITY, "shoulder", pytest.approx(0.8 / DT), 1.0),)
    track = [ask(supervisor, 0.8, 1.0).command[0] for _ in range(80)]
    assert max(track) <= 0.8 + 1e-6
    assert track[-1] == pytest.approx(0.8, abs=1e-6)
    assert max(np.diff(track)) == pytest.approx(1.0 * DT)
    assert ask(supervisor, 0.8, 1.0).verdict is Verdict.PASSED


def test_position_limit_keeps_the_soft_margin_and_names_the_joint() -> None:
    supervisor = armed()
    for _ in range(100):
        decision = ask(supervisor, 0.0, 5.0)
    assert decision.command[1] == pytest.approx(1.9)
    assert decision.findings == (Finding(Reason.POSITION, "elbow", 5.0, pytest.approx(1.9)),)
    assert str(decision.findings[0]) == "joint position limit (elbow: 5, limit 1.9)"


def test_ramp_after_arming_grows_from_a_tenth() -> None:
    supervisor = armed(ramp_s=1.0)
    ask(supervisor, 0.05, 1.0)
    slow = ask(supervisor, 0.013, 1.0)
    assert Reason.FIRST_COMMANDS in reasons(slow)
    fast = [ask(supervisor, 0.9, 1.0).command[0] for _ in range(20)]
    assert max(np.diff(fast)) < 1.0 * DT * 0.55


def test_joint_that_starts_in_the_margin_only_moves_out_of_it() -> None:
    supervisor = Supervisor(limits())
    supervisor.arm(state((0.95, 1.0)), 0.0)
    outward = [ask(supervisor, 2.0, 1.0, seen=state((0.95, 1.0))).command[0] for _ in range(50)]
    assert max(outward) <= 0.95
    assert outward[-1] == pytest.approx(0.9)


def test_stale_and_future_measurements_hold_and_release() -> None:
    supervisor = armed()
    for stamp_s in (-0.051, 0.01, math.nan):
        decision = ask(supervisor, 0.5, 1.0, seen=state(stamp_s=stamp_s))
        assert decision.verdict is Verdict.HELD
        assert reasons(decision) == {Reason.STALE}
        np.testing.assert_array_equal(decision.command, HOME)
    assert ask(supervisor, *HOME, seen=state(stamp_s=-0.05)).verdict is Verdict.PASSED


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_numbers_hold_then_latch(bad: float) -> None:
    supervisor = armed()
    assert ask(supervisor, bad, 1.0).verdict is Verdict.HELD
    assert ask(supervisor, 0.0, bad).verdict is Verdict.HELD
    assert ask(supervisor, *HOME).verdict is Verdict.PASSED  # a good tick begins the count anew
    verdicts = [ask(supervisor, bad, 1.0).verdict for _ in range(3)]
    assert verdicts == [Verdict.HELD, Verdict.HELD, Verdict.STOPPED]
    assert ask(supervisor, *HOME).verdict is Verdict.STOPPED
    assert supervisor.stopped[0].reason is Reason.BAD_ACTION
    assert supervisor.reasons[Reason.BAD_ACTION] == 5
    assert supervisor.reasons[Reason.LATCHED] == 1


def test_broken_observation_is_seen_even_where_the_policy_answers() -> None:
    supervisor = armed()
    verdicts = [ask(supervisor, *HOME, seen=state(obs=(0.0, math.nan))).verdict for _ in range(3)]
    assert verdicts == [Verdict.HELD, Verdict.HELD, Verdict.STOPPED]


def test_stop_brakes_within_the_acceleration_limit_and_stays() -> None:
    supervisor = armed()
    for _ in range(20):
        moving = ask(supervisor, 0.9, 1.0).command[0]
    supervisor.stop(Reason.OPERATOR, "key")
    track = [moving, *(ask(supervisor, 0.9, 1.0).command[0] for _ in range(10))]
    steps = np.diff(track) / DT
    assert steps == pytest.approx([0.8, 0.6, 0.4, 0.2, *[0.0] * 6], abs=1e-9)
    assert supervisor.at_rest
    assert str(supervisor.stopped[0]) == "stopped by the operator (key)"


def test_an_arm_that_was_held_meanwhile_is_not_set_off_again() -> None:
    supervisor = armed()
    for _ in range(20):
        ask(supervisor, 0.9, 1.0)
    supervisor.stop(Reason.POLICY_LATE, "a tick took over 100 ms")
    supervisor.held()
    stands = state((0.25, 1.0))
    for _ in range(3):
        held = ask(supervisor, 0.9, 1.0, seen=stands)
        np.testing.assert_array_equal(held.command, [0.25, 1.0])
    assert supervisor.at_rest
    assert held.verdict is Verdict.STOPPED


def test_latched_stop_needs_an_explicit_arm_from_where_the_joints_are() -> None:
    supervisor = armed()
    supervisor.stop()
    ask(supervisor, *HOME)
    supervisor.arm(state((0.3, 1.2)), 0.0)
    assert supervisor.stopped == ()
    np.testing.assert_array_equal(ask(supervisor, 0.3, 1.2).command, np.float32([0.3, 1.2]).astype(float))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (state((1.01, 1.0)), r"outside its limits \(shoulder: 1\.01, limit 1\)"),
        (state(dq=(0.5, 0.0)), "above its speed limit"),
        (state(q=(math.nan, 1.0)), r"not finite \(q 0\)"),
        (state(stamp_s=-1.0), "too old"),
    ],
)
def test_arming_is_refused_with_the_cause_and_the_remedy(seen: ArmState, words: str) -> None:
    supervisor = armed()
    supervisor.stop()
    with pytest.raises(LimitError, match=f"{words}.*arm again"):
        supervisor.arm(seen, 0.0)
    assert supervisor.stopped


def test_measured_excess_speed_holds_and_position_stops() -> None:
    supervisor = armed()
    fast = ask(supervisor, 0.5, 1.0, seen=state(dq=(0.0, -4.1)))
    assert (fast.verdict, reasons(fast)) == (Verdict.HELD, {Reason.MEASURED_VELOCITY})
    outside = ask(supervisor, 0.5, 1.0, seen=state((0.0, 2.01)))
    assert outside.verdict is Verdict.STOPPED
    assert supervisor.stopped == (Finding(Reason.MEASURED_POSITION, "elbow", 2.01, 2.0),)


def test_tool_outside_the_box_stops_joint_motion() -> None:
    supervisor = Supervisor(limits(tool=TOOL))
    supervisor.arm(state(), 0.0)
    decision = ask(supervisor, *HOME, seen=state(tool=(0.0, 0.0, -0.01)))
    assert supervisor.stopped == (Finding(Reason.MEASURED_TOOL, "z", -0.01, 0.0),)
    assert decision.verdict is Verdict.STOPPED


def test_tool_actions_by_hand() -> None:
    supervisor = armed("osc_pose")
    calm = ask(supervisor, 0.2, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0)
    assert calm.verdict is Verdict.PASSED
    quick = ask(supervisor, 0.6, 0.8, 0.0, 0.0, 0.0, 0.0, -1.0)  # 0.05 m in 0.02 s is 2.5 m/s
    np.testing.assert_allclose(quick.command, [0.24, 0.32, 0, 0, 0, 0, -1], atol=1e-7)
    assert reasons(quick) == {Reason.TOOL_SPEED}
    edge = ask(supervisor, 0.0, 0.0, -0.4, 0.0, 0.0, 0.0, -1.0, seen=state(tool=(0.0, 0.0, 0.01)))
    assert edge.command[2] == pytest.approx(-0.2)
    assert reasons(edge) == {Reason.WORKSPACE}
    supervisor.stop()
    still = ask(supervisor, 1, 1, 1, 1, 1, 1, 1)
    np.testing.assert_array_equal(still.command, [0, 0, 0, 0, 0, 0, -1])  # the gripper keeps its grip


def test_tool_outside_the_box_may_only_come_back() -> None:
    supervisor = armed("osc_pose")
    command = ask(supervisor, 0.1, 0, 0, 0, 0, 0, 0, seen=state(tool=(0.6, 0.0, 0.5))).command
    assert command[0] < 0


def test_tool_slows_down_near_a_joint_limit() -> None:
    supervisor = armed("osc_pose")
    near = ask(supervisor, 0.4, 0, 0, 0, 0, 0, 0, seen=state((0.95, 1.0)))  # half the margin is left
    assert near.command[0] == pytest.approx(0.2)
    assert Reason.POSITION in reasons(near)


def test_never_armed_and_wrong_length_are_refused() -> None:
    with pytest.raises(LimitError, match="never armed"):
        ask(Supervisor(limits()), 0.0, 0.0)
    with pytest.raises(LimitError, match=r"takes 2 numbers.*got 3"):
        ask(armed(), 0.0, 0.0, 0.0)


def test_limits_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs a section 'tool'"):
        Limits(
            control="osc_pose",
            rate_hz=20,
            joints=JOINTS,
            tool=None,
            stale_after_s=1,
            ramp_s=0,
            stop_after_bad=1,
        )
    with pytest.raises(ConfigError, match=r"elbow: positions 0 to 0.1 rad leave no room"):
        JointLimits(
            names=("elbow",),
            low=np.array([0.0]),
            high=np.array([0.1]),
            velocity=np.ones(1),
            acceleration=np.ones(1),
            soft_margin=0.05,
        )
