"""Recording by hand: what is kept is whole, what is dropped is gone, and a kill loses at most a step."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.commands.record import main
from deploy.teleop.device import END, FAILURE
from deploy.teleop.keyboard import Words
from deploy.teleop.open import Seat
from deploy.teleop.recording import Recording
from deploy.teleop.sitting import Sitting, SittingPlan
from robot_rl.data.dataset import load_dataset
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.transition import Rows, Success, transition_dtype
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError, RecorderError
from robot_rl.spec import Spec
from tests.deploy.teleop.typist import Typist
from tests.learning.made import make_spec

ENV = "Pendulum-v1"
RIGHT, LEFT, ESC = b"\x1b[C", b"\x1b[D", b"\x1b"


def steps(count: int, first: int = 0, success: int = -1) -> Rows:
    found = np.zeros(count, transition_dtype(5, 2))
    found["obs"], found["next_obs"] = first + np.arange(count)[:, None], first + 1 + np.arange(count)[:, None]
    found["success"], found["intervention"] = success, 1
    return found


# The file


def test_kept_episodes_become_a_dataset_and_dropped_ones_leave_no_trace(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "d", make_spec(), resume=False)
    recording.add(steps(4, success=0))
    recording.add(steps(1, first=4, success=1))
    recording.keep(0)
    recording.add(steps(7, first=50))
    recording.drop()
    assert recording.open_steps == 0
    recording.add(steps(3, first=100, success=1))
    recording.keep(1, Success.NO)
    recording.add(steps(2, first=200))  # never decided about
    dataset = recording.finish(origin="made", notes=())
    episodes = list(dataset)
    assert [(len(e), e.success, e.terminated) for e in episodes] == [(5, True, False), (3, False, False)]
    assert episodes[0].observations[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert episodes[1].observations[:, 0].tolist() == [100, 101, 102, 103]
    np.testing.assert_allclose(episodes[1].timestamps, np.arange(4) / 20)
    assert not recording.folder.exists()


def test_a_success_that_only_a_person_saw_brings_the_reward_of_one(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "d", make_spec(), resume=False)
    recording.add(steps(3))
    recording.keep(0, Success.YES)
    recording.add(steps(3, first=100))
    recording.keep(1, Success.NO)
    dense = steps(3, first=200)
    dense["reward"] = -0.5
    recording.add(dense)
    recording.keep(2, Success.YES)
    one, two, three = recording.finish(origin="made", notes=())
    assert (one.rewards.tolist(), one.terminated, one.success) == ([0, 0, 1], True, True)
    assert (two.rewards.tolist(), two.terminated, two.success) == ([0, 0, 0], False, False)
    assert (three.rewards.tolist(), three.terminated, three.success) == ([-0.5] * 3, False, True)


def test_an_interrupted_recording_goes_on_and_offers_the_open_episode(tmp_path: Path) -> None:
    first = Recording(tmp_path / "d", make_spec(), resume=False)
    first.add(steps(3))
    first.keep(4)
    first.add(steps(2))
    first.close()
    with (first.folder / "episodes.jsonl").open("ab") as file:
        file.write(b'{"stop": 9, "num')  # a power cut in the middle of a line
    with pytest.raises(RecorderError, match="--resume"):
        Recording(tmp_path / "d", make_spec(), resume=False)
    second = Recording(tmp_path / "d", make_spec(), resume=True)
    assert (second.next_number, second.open_steps) == (5, 2)
    second.keep(5)
    assert [len(e) for e in second.finish(origin="made", notes=())] == [3, 2]


def test_esc_at_the_offer_of_an_open_episode_drops_it_and_ends(tmp_path: Path) -> None:
    first = Recording(tmp_path / "d", make_spec(), resume=False)
    first.add(steps(3))
    first.keep(0)
    first.add(steps(2, first=50))
    first.close()
    recording, words = Recording(tmp_path / "d", make_spec(), resume=True), Words()
    words.say(END)
    pilot: Any = None
    collector: Any = None  # nothing is driven any more
    sitting = Sitting(
        collector,
        np.zeros(2, np.float32),
        Seat(pilot, words, words.hear, ""),
        arm=None,
        recording=recording,
        plan=SittingPlan(),
        stop=threading.Event(),
        say=lambda _text: None,
    )
    sitting.run()
    assert sitting.ended
    assert recording.open_steps == 0
    assert [len(e) for e in recording.finish(origin="made", notes=())] == [3]


@pytest.mark.parametrize("only_successes", [False, True])
def test_a_failure_that_somebody_labels_is_kept_also_where_nobody_is_asked(
    tmp_path: Path, *, only_successes: bool
) -> None:
    words = Words()

    class Ends:
        """Episodes of two steps, none a success; in the second step of the first somebody presses n."""

        episode, taken = 0, 0

        def step(self, _explore: Any, _version: int) -> tuple[Rows, Any]:
            self.taken += 1
            if self.taken == 2:
                words.say(FAILURE)
            return steps(1, first=self.taken, success=0), True if self.taken > 2 and self.taken % 2 == 0 else None

        def leave(self) -> None: ...

    ends: Any = Ends()
    pilot: Any = None
    recording = Recording(tmp_path / "d", make_spec(), resume=False)
    plan = SittingPlan(episodes=1 if only_successes else 2, asks=False, only_successes=only_successes)
    seat = Seat(pilot, words, words.hear, "")
    stop = threading.Event()
    sitting = Sitting(
        ends, np.zeros(2, np.float32), seat, arm=None, recording=recording, plan=plan, stop=stop, say=lambda _text: None
    )
    sitting.run()
    kept = list(recording.finish(origin="made", notes=()))
    assert [(len(e), e.success) for e in kept] == [(2, False)] * len(recording.kept)
    assert ends.taken == (2 if only_successes else 4)


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecorderError, match="Leave --resume out"):
        Recording(tmp_path / "d", make_spec(), resume=True)
    (tmp_path / "e").mkdir()
    with pytest.raises(RecorderError, match="exists already"):
        Recording(tmp_path / "e", make_spec(), resume=True)
    empty = Recording(tmp_path / "f", make_spec(), resume=False)
    with pytest.raises(RecorderError, match="No episode was kept"):
        empty.finish(origin="made", notes=())
    lost = Recording(tmp_path / "g", make_spec(), resume=False)
    lost.add(steps(3))
    lost.keep(0)
    lost.drop()
    lost.log.truncate(1)
    lost.close()
    with pytest.raises(RecorderError, match=r"counts 3 steps.*holds 1"):
        Recording(tmp_path / "g", make_spec(), resume=True)


@pytest.mark.parametrize(
    "words",
    [["--arm", "virtual"], [ENV, "--resume"], [], [ENV, "--teleop", "keyboard", "--pause", "0.1"],
     [ENV, "--teleop", "scripted", "--socket", "x"]],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        main([*words, "--out", str(tmp_path / "d")])


def test_a_keyboard_needs_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(ConfigError, match="needs a terminal"):
            main([ENV, "--teleop", "keyboard", "--out", str(tmp_path / "d")])


def test_the_scripted_expert_records_on_an_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--arm", "virtual", "--teleop", "scripted", "--episodes", "2", "--episode-steps", "40", "--json"]
    assert main([*words, "--out", str(tmp_path / "d")]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    dataset = load_dataset(tmp_path / "d")
    fastest = 2.62 * 0.6 / 50  # rad a step of joint 1, by the arm's file
    for episode in dataset:
        assert np.abs(np.diff(episode.actions[:, 0])).max() <= fastest + 1e-6  # as executed, not as asked
        assert episode.return_ < 0


# The command, at a terminal


def log_length(out: Path, spec: Spec) -> int:
    folder = out.with_name(out.name + ".recording") / "transitions"
    size = transition_dtype(spec.obs_dim, spec.action_dim).itemsize + 40  # a frame's header
    return sum(file.stat().st_size for file in folder.glob("*.rows")) // size


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_keys_keep_redo_and_stop_and_a_kill_loses_at_most_a_step(tmp_path: Path) -> None:
    out, spec = tmp_path / "d", env_spec(make_env(ENV))
    words = ["record", ENV, "--teleop", "keyboard", "--out", out, "--episode-steps", 100000]
    person = Typist(*words)
    person.until("episode 0: go")
    person.type(b"i")
    wait(lambda: log_length(out, spec) >= 8)
    person.type(RIGHT)
    person.until("episode 0 is kept")
    person.until("episode 1: go")
    line = (tmp_path / "d.recording" / "episodes.jsonl").read_text()
    kept = int(json.loads(line)["stop"])  # episode 1 goes on meanwhile
    wait(lambda: log_length(out, spec) >= kept + 5)
    person.type(LEFT)
    person.until("episode 1 is dropped")
    person.until("episode 1: go")
    wait(lambda: log_length(out, spec) >= kept + 6)
    person.process.send_signal(signal.SIGKILL)
    person.end()
    left = log_length(out, spec)
    log = ReplayLog(tmp_path / "d.recording" / "transitions", spec)
    assert len(log) == left  # every step that was written is whole
    rows = log.read()
    log.close()
    assert np.abs(rows["action"][:kept]).max() == pytest.approx(1.0)  # 0.5 of 2 N m
    assert (rows["intervention"] == 1).all()

    person = Typist(*words, "--resume")
    person.until(rf"interrupted\s+{left - kept}\s+steps")
    person.type(RIGHT)
    person.until("episode 2: go")
    person.type(ESC)
    assert person.end() == 0, person.said
    episodes = list(load_dataset(out))
    assert [len(e) for e in episodes] == [kept, left - kept]
    np.testing.assert_array_equal(episodes[1].observations[0], make_env(ENV).reset(seed=1)[0])
    assert not (tmp_path / "d.recording").exists()
