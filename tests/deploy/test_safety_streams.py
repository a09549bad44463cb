"""The supervisor's promises under random streams; `robot-rl bench safety` is the full table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from deploy.arms.config import load_arm
from deploy.bench import safety
from deploy.bench.safety import SafetyBenchConfig, Tally, judge_joints, run
from deploy.safety.supervisor import Supervisor


def test_no_stream_makes_a_command_leave_that_breaks_a_limit() -> None:
    tallies = run(SafetyBenchConfig(streams=300, seed=7))
    assert len(tallies) == 10
    assert all(not sum(t.broken.values()) for t in tallies.values())
    assert all(t.worst["position"] > 0.9 for t in tallies.values())  # the streams do press against the limits


@pytest.mark.slow
def test_a_hundred_thousand_streams() -> None:
    tallies = run(SafetyBenchConfig(streams=100_000, seed=1))
    assert not sum(sum(t.broken.values()) for t in tallies.values())


def test_without_kinematics_the_same_streams_do_leave_the_box() -> None:
    limits = load_arm("virtual").limits()
    careless = Supervisor(replace(limits, kinematics=None))
    rng = np.random.default_rng(0)
    poses, tools = safety.start_poses(limits, 300, rng)
    tally = Tally()
    for pose, tool in zip(poses, tools, strict=True):
        safety.stream(careless, limits, "at the wall", (pose, tool), rng, tally)
    assert tally.broken["workspace"] > 0
    assert not tally.broken["position"]


def test_the_judge_sees_what_is_broken() -> None:
    limits, tally = load_arm("virtual").limits(), Tally()
    pose = np.array(load_arm("virtual").home)
    behind = np.array([2.6, *pose[1:]])  # the box ends 0.2 m behind the base
    judge_joints(limits, np.stack([pose, pose + 0.2, pose + 4.0, behind, pose * np.nan]), tally)
    for name in ("position", "speed", "acceleration", "workspace", "not finite"):
        assert tally.broken[name] > 0, name


def test_the_command_writes_its_table(tmp_path: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "safety.md"  # type: ignore[operator]
    assert safety.main(["--streams", "20", "--arms", "virtual", "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["broken"] == 0
    assert set(answer["rows"]) == {f"virtual/{kind}" for kind in safety.ASKS}
    assert "**0 commands that break a limit**" in out.read_text()
