"""The operator's station, the watchdog, and what the system is asked for."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.arms.arm import ArmState
from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.contract import Contract
from deploy.commands import operator as operator_command
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.control.realtime import RealtimePlan, realtime
from deploy.control.report import Ending
from deploy.control.watchdog import Watchdog
from deploy.operator.station import Station, socket_at, tell
from deploy.safety.decision import Decision, Reason, Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ConfigError, RobotRLError

Bundle = tuple[Path, Contract]


class Wanders:
    """Asks for a slow swing around the pose it saw first."""

    def __init__(self, contract: Contract, *, hangs_at: int = -1) -> None:
        self.contract, self.calls, self.hangs_at = contract, 0, hangs_at
        self.home: Any = None

    def act(self, obs: Any) -> Any:
        self.home = np.array(obs[:7]) if self.home is None else self.home
        self.calls += 1
        if self.calls == self.hangs_at:
            time.sleep(0.5)
        return self.home + 0.1 * np.sin(0.05 * self.calls)

    def warm_up(self) -> None:
        pass


@pytest.fixture
def arm() -> Generator[Any]:
    made = make_arm(load_arm("virtual"), episode_steps=100_000)
    made.connect()
    yield made
    made.close()


def limits(**changed: Any) -> Any:
    return replace(load_arm("virtual").limits(), **changed)


def drive(bundle: Bundle, arm: Any, station: Station, on_tick: Any, **options: Any) -> Any:
    policy: Any = Wanders(bundle[1])
    supervisor = Supervisor(options.pop("limits", None) or limits())
    plan = ServePlan(duration_s=options.pop("ticks", 400) / 50, paced=False, **options)
    return serve(policy, arm, supervisor, plan, station=station, on_tick=on_tick)


@pytest.mark.parametrize("how", ["signal", "socket", "call"])
def test_emergency_stop_brakes_from_the_very_next_tick(bundle: Bundle, arm: Any, how: str, tmp_path: Path) -> None:
    station, seen = Station(), list[Decision]()
    path = tmp_path / "op"

    def press(*heard: Any) -> None:
        seen.append(heard[2]._replace(command=heard[2].command.copy()))
        if len(seen) == 60:
            if how == "signal":
                os.kill(os.getpid(), signal.SIGUSR1)
            elif how == "socket":
                assert tell(path, "stop") == "ok"
            else:
                station.press("key")

    with socket_at(station, path if how == "socket" else None):
        report = drive(bundle, arm, station, press)
    assert report.ending is Ending.STOPPED
    assert "emergency stop" in report.stop_causes[0]
    assert seen[59].verdict is not Verdict.STOPPED
    assert all(d.verdict is Verdict.STOPPED for d in seen[60:])
    steps = np.abs(np.diff([d.command for d in seen[58:]], axis=0)) * 50
    assert (np.diff(steps[1:], axis=0) <= 1e-9).all()  # slower from the first tick on
    assert not steps[-1].any()
    assert not path.exists()


def test_an_armed_again_stop_goes_on_and_an_unfit_arm_stays_stopped(bundle: Bundle, arm: Any) -> None:
    station, verdicts = Station(), list[Verdict]()

    def act(*heard: Any) -> None:
        verdicts.append(heard[2].verdict)
        match len(verdicts):
            case 50:
                station.press("key")
            case 120:
                assert station.status.startswith("stopped: emergency stop (key)")
                station.ask_to_arm()
            case _:
                pass

    report = drive(bundle, arm, station, act, wait_for_arm=True, ticks=200)
    assert report.ending is Ending.DURATION
    assert set(verdicts[55:119]) == {Verdict.STOPPED}
    assert Verdict.STOPPED not in verdicts[122:]
    assert station.status == "running"


class Moved:
    """An arm whose measurements somebody changes."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.change = inner, lambda state: state

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self) -> Any:
        return self.change(self.inner.read())


def moving(state: ArmState) -> ArmState:
    return replace(state, dq=np.full(7, 0.5))


def test_a_refused_word_to_arm_says_why_for_as_long_as_it_holds(bundle: Bundle, arm: Any) -> None:
    station, said, turned = Station(), list[str](), Moved(arm)

    def act(*heard: Any) -> None:
        said.append(station.status)
        match len(said):
            case 50:
                station.press("key")
            case 100:
                turned.change = moving  # somebody guides it by hand
                station.ask_to_arm()
            case 110:
                turned.change = lambda state: state
                station.ask_to_arm()
            case _:
                pass

    report = drive(bundle, turned, station, act, wait_for_arm=True, ticks=150)
    assert report.ending is Ending.DURATION
    assert said[99] == "stopped: emergency stop (key)"
    assert all("(key). The arm cannot be armed: measured joint above its speed" in text for text in said[101:110])
    assert station.status == "running"


def test_a_word_to_arm_said_while_nothing_is_stopped_does_not_release_a_later_stop(bundle: Bundle, arm: Any) -> None:
    station, verdicts, turned = Station(), list[Verdict](), Moved(arm)

    def act(*heard: Any) -> None:
        verdicts.append(heard[2].verdict)
        if len(verdicts) == 20:
            station.ask_to_arm()
        turned.change = outside if 50 <= len(verdicts) < 55 else lambda state: state

    def outside(state: ArmState) -> ArmState:
        return replace(state, q=state.q + 10.0)

    report = drive(bundle, turned, station, act, wait_for_arm=True, ticks=150)
    assert set(verdicts[50:]) == {Verdict.STOPPED}
    assert "measured joint outside its limits" in report.stop_causes[0]


def test_a_stop_pressed_while_the_arm_is_being_armed_counts(bundle: Bundle, arm: Any) -> None:
    station, verdicts, turned = Station(), list[Verdict](), Moved(arm)

    def pressing(state: ArmState) -> ArmState:
        if station.status.startswith("stopped") and not station.stop_cause:
            station.press("the second time")
        return state

    def act(*heard: Any) -> None:
        verdicts.append(heard[2].verdict)
        if len(verdicts) == 50:
            station.press("key")
        if len(verdicts) == 100:
            turned.change = pressing
            station.ask_to_arm()

    report = drive(bundle, turned, station, act, wait_for_arm=True, ticks=150)
    assert "the second time" in report.stop_causes[0]
    assert set(verdicts[51:]) == {Verdict.STOPPED}


def test_without_signs_of_the_operator_the_arm_holds(bundle: Bundle, arm: Any) -> None:
    station, verdicts = Station(), list[Verdict]()

    def act(*heard: Any) -> None:
        verdicts.append(heard[2].verdict)
        if len(verdicts) == 20:
            station.beat()

    report = drive(bundle, arm, station, act, limits=limits(operator_timeout_s=5.0), ticks=40)
    assert set(verdicts[:20]) == {Verdict.HELD}
    assert Verdict.HELD not in verdicts[20:]
    assert report.reasons[Reason.OPERATOR_SILENT.value] == 20


def test_a_hanging_policy_is_held_by_the_watchdog_and_stays_stopped(bundle: Bundle, arm: Any) -> None:
    held: list[float] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(arm, name)

        def hold(self) -> None:
            held.append(time.monotonic())

    policy: Any = Wanders(bundle[1], hangs_at=30)
    watched: Any = Watched()
    plan = ServePlan(duration_s=4.0)
    report = serve(policy, watched, Supervisor(limits(policy_timeout_s=0.1)), plan)
    assert report.ending is Ending.STOPPED
    assert "policy took too long (a tick took over" in report.stop_causes[0]
    assert len(held) == 2  # by the watchdog, and at the end
    assert held[1] - held[0] > 0.1  # while the policy still hung


@pytest.mark.parametrize(
    ("overrun", "ending"), [("skip", Ending.DURATION), ("hold", Ending.DURATION), ("stop", Ending.STOPPED)]
)
def test_overruns_go_on_hold_or_stop(bundle: Bundle, arm: Any, overrun: Any, ending: Ending) -> None:
    policy: Any = Wanders(bundle[1], hangs_at=10)
    report = serve(policy, arm, Supervisor(limits(overrun=overrun)), ServePlan(duration_s=1.0))
    assert report.ending is ending
    assert report.missed > (0 if overrun == "stop" else 10)
    said = (*report.reasons, *report.stop_causes)  # a stop from outside is a cause, not a count
    assert any(Reason.OVERRUN.value in text for text in said) == (overrun != "skip")


def test_the_operator_s_command_speaks_to_the_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    station, path = Station(), tmp_path / "op"
    with socket_at(station, path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert operator_command.main([str(path), "stop"]) == 0
        assert station.stop_cause == "socket"
        assert operator_command.main([str(path), "arm"]) == 0
        assert station.wants_arm
        assert operator_command.main([str(path), "status"]) == 0
        assert tell(path, "dance").startswith("unknown 'dance'; known: stop, arm")
        station.released()
        assert tell(path, "beat\nstop") == "ok\nok"  # each line counts, also where they come together
        assert station.stop_cause == "socket"
        assert operator_command.main([str(path), "end"]) == 0
        with pytest.raises(ConfigError, match="Cannot open the operator's socket"), socket_at(Station(), path):
            pass
    assert station.ending.is_set()
    assert capsys.readouterr().out.split() == ["ok", "ok", "starting", "ok"]
    with pytest.raises(RobotRLError, match="Nobody answers"):
        tell(path, "stop")


@pytest.mark.parametrize("key", ["s", "S", "space"])
def test_keys_stop_with_caps_lock_on_too(key: str) -> None:
    station = Station()
    station.hear(key)
    assert station.stop_cause == "key"


def test_the_watchdog_bites_once_in_time_and_sleeps_on_command() -> None:
    bites: list[float] = []
    with Watchdog(0.2, bites.append) as dog:
        time.sleep(0.3)
        assert not bites  # never kicked: nothing has begun
        dog.kick()
        dog.sleep()
        time.sleep(0.3)
        assert not bites
        dog.kick()
        time.sleep(0.6)
    assert len(bites) == 1
    with Watchdog(0.0, bites.append):
        pass


def test_the_watchdog_watches_on_where_the_arm_could_not_be_held() -> None:
    bites: list[float] = []

    def bite(silence_s: float) -> None:
        bites.append(silence_s)
        raise RobotRLError("the line is cut")

    with Watchdog(0.1, bite) as dog:
        for count in (1, 2):
            dog.kick()
            deadline = time.monotonic() + 20
            while len(bites) < count and time.monotonic() < deadline:
                time.sleep(0.01)
    assert len(bites) == 2


def test_what_the_system_grants_is_said_and_given_back() -> None:
    cores = os.sched_getaffinity(0)
    core = min(cores)
    with realtime(RealtimePlan(core=core)) as said:
        assert os.sched_getaffinity(0) == {core}
    assert said == [f"core {core}: yes"]
    assert os.sched_getaffinity(0) == cores
    with realtime(RealtimePlan(core=100_000)) as said:
        assert said == ["core 100000: refused (Invalid argument)"]
    assert threading.current_thread() is threading.main_thread()
    assert json.dumps(said)


def test_real_time_is_given_back_where_only_a_limit_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sched(7) has it: without CAP_SYS_NICE the flag RESET_ON_FORK, once set, may not be taken off again."""
    now = [os.SCHED_OTHER]

    def schedule(_thread: int, policy: int, _parameter: os.sched_param) -> None:
        if now[-1] & os.SCHED_RESET_ON_FORK and not policy & os.SCHED_RESET_ON_FORK:
            raise PermissionError(1, "Operation not permitted")
        now.append(policy)

    monkeypatch.setattr(os, "sched_setscheduler", schedule)
    with realtime(RealtimePlan(fifo=True)) as said:
        assert said == ["SCHED_FIFO 40: yes"]
    assert now == [os.SCHED_OTHER, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK]
