from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.arms.arm import Arm, ArmState
from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.commands import serve as serve_command
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.control.report import Ending
from deploy.safety.decision import Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.errors import BundleError, ConfigError, SpecMismatch

Bundle = tuple[Path, Contract]
FREE = ServePlan(episodes=2, paced=False)


class Scripted:
    """Stands in for a policy: holds still, except where told."""

    def __init__(self, contract: Contract, *, bad_from: int = 10**9) -> None:
        self.contract = contract
        self.bad_from, self.calls = bad_from, 0

    def act(self, obs: Any) -> Any:
        self.calls += 1
        action = np.array(obs[:7])
        if self.calls > self.bad_from:
            action[3] = np.nan
        return action

    def warm_up(self) -> None:
        pass


class Watched:
    """An arm that notes what reaches it."""

    def __init__(self, inner: Arm) -> None:
        self.inner = inner
        self.commands: list[Any] = []
        self.holds = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def command(self, action: Any) -> None:
        self.commands.append(action.copy())
        self.inner.command(action)

    def hold(self) -> None:
        self.holds += 1


@pytest.fixture
def arm() -> Any:
    made = make_arm(load_arm("virtual"), episode_steps=25)
    made.connect()
    yield Watched(made)
    made.close()


def supervisor() -> Supervisor:
    return Supervisor(load_arm("virtual").limits())


def test_episodes_are_counted_and_the_arm_holds_at_the_end(bundle: Bundle, arm: Any) -> None:
    report = serve(Policy.load(bundle[0]), arm, supervisor(), FREE)
    assert (report.ending, report.episodes, report.ticks) == (Ending.EPISODES, 2, 50)
    assert sum(report.verdicts.values()) == 50
    assert report.success_rate in (0.0, 0.5, 1.0)
    assert len(report.returns) == 2
    assert arm.holds == 1


def test_every_tick_shows_state_asked_and_decision(bundle: Bundle, arm: Any) -> None:
    seen: list[tuple[ArmState, Any, Verdict]] = []
    policy: Any = Scripted(bundle[1])
    serve(policy, arm, supervisor(), FREE, on_tick=lambda s, a, d: seen.append((s, a.copy(), d.verdict)))
    assert len(seen) == len(arm.commands) == 50
    state, asked, verdict = seen[0]
    np.testing.assert_allclose(asked, state.q, atol=1e-6)
    assert verdict is not Verdict.HELD


def test_policy_that_turns_nan_is_stopped_and_no_nan_reaches_the_arm(bundle: Bundle, arm: Any) -> None:
    policy: Any = Scripted(bundle[1], bad_from=10)
    report = serve(policy, arm, supervisor(), FREE)
    assert report.ending is Ending.STOPPED
    assert report.ticks == 9 + 5  # the loop's first call warms up; five bad ticks latch the stop
    assert "policy output not finite" in report.stop_causes[0]
    assert np.isfinite(arm.commands).all()
    assert arm.holds == 1


def test_duration_counts_ticks_at_control_rate(bundle: Bundle, arm: Any) -> None:
    report = serve(Policy.load(bundle[0]), arm, supervisor(), ServePlan(duration_s=0.2))
    assert (report.ending, report.ticks + report.missed) == (Ending.DURATION, 10)
    assert np.isfinite(report.compute.p50)


def test_ctrl_c_ends_cleanly_and_gives_the_signal_back(bundle: Bundle, arm: Any) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press(*_: object) -> None:
        if len(arm.commands) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    report = serve(Policy.load(bundle[0]), arm, supervisor(), ServePlan(paced=False), on_tick=press)
    assert report.ending is Ending.OPERATOR
    assert "stopped by the operator" in report.stop_causes[0]
    assert signal.getsignal(signal.SIGINT) is before
    steps = np.diff(arm.commands[-3:], axis=0)
    np.testing.assert_array_equal(steps[-1], 0.0)


def test_another_thread_can_stop_it(bundle: Bundle, arm: Any) -> None:
    stop = threading.Event()
    stop.set()
    report = serve(Policy.load(bundle[0]), arm, supervisor(), ServePlan(paced=False), stop=stop)
    assert (report.ending, report.ticks) == (Ending.OPERATOR, 1)


def test_arm_holds_when_its_driver_fails(bundle: Bundle, arm: Any) -> None:
    def fail(*_: object) -> None:
        raise OSError("cable out")

    with pytest.raises(OSError, match="cable out"):
        serve(Policy.load(bundle[0]), arm, supervisor(), FREE, on_tick=fail)
    assert arm.holds == 1


def test_arm_without_episodes_takes_no_episode_count(bundle: Bundle) -> None:
    class Bare:
        name = "bare"

    bare: Any = Bare()
    with pytest.raises(ConfigError, match=r"'bare' has no episodes. Give --duration"):
        serve(Policy.load(bundle[0]), bare, supervisor(), FREE)


def test_plan_refuses_zero() -> None:
    with pytest.raises(ConfigError, match="duration_s is 0"):
        ServePlan(duration_s=0.0)


def test_command_answers_in_json_and_draws(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "ticks.png"
    words = [
        str(bundle[0]),
        "--arm",
        "virtual",
        "--episodes",
        "1",
        "--episode-steps",
        "20",
        "--free-run",
        "--no-record",
        "--json",
    ]
    assert serve_command.main([*words, "--plot", str(plot)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ticks"], answer["missed"], answer["ending"]) == (20, 0, "episodes done")
    assert answer["lateness_us"]["p50"] is None
    assert set(answer["phases_us"]) == {"read", "policy", "supervise", "command", "record", "physics"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_command_prints_a_table(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(bundle[0]), "--arm", "virtual", "--episode-steps", "20", "--free-run", "--no-record"]
    assert serve_command.main(words) == 0
    text = capsys.readouterr().out
    for word in ("period", "compute", "supervise", "episodes done: 20 ticks", "supervisor:", "1 episodes"):
        assert word in text


def test_command_refuses_what_does_not_fit(
    bundle: Bundle, tmp_path: Path, trained: TrainedPolicy, make_trained: Any
) -> None:
    from deploy.bundle.export import export_policy

    slower = replace(trained.spec, rate_hz=25.0)
    export_policy(make_trained(slower), tmp_path / "slower", [])
    with pytest.raises(SpecMismatch, match=r"rate: policy 'reach' runs at 25 Hz, arm 'virtual .*' at 50 Hz"):
        serve_command.main([str(tmp_path / "slower"), "--arm", "virtual"])
    with pytest.raises(BundleError, match="is not a policy bundle"):
        serve_command.main([str(tmp_path), "--arm", "virtual"])
    with pytest.raises(ConfigError, match="--free-run has no clock"):
        serve_command.main([str(bundle[0]), "--arm", "virtual", "--free-run", "--duration", "1"])
