"""The operator's keyboard and the film of a replay, through the command line: real processes, a real terminal."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from deploy.bundle.contract import Contract
from deploy.commands import replay as replay_command
from deploy.commands import serve as serve_command
from robot_rl.errors import ConfigError

Bundle = tuple[Path, Contract]
ECHO, CANONICAL = termios.ECHO, termios.ICANON


class Terminal:
    """`robot-rl serve` as a person runs it: standard input, output and error are a terminal."""

    def __init__(self, words: list[str]) -> None:
        self.ours, self.theirs = pty.openpty()
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        self.process = subprocess.Popen(
            [sys.executable, "-m", "robot_rl.cli", "serve", *words],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
        )

    def modes(self) -> int:
        """The terminal's local modes: echo, and lines instead of keys."""
        return termios.tcgetattr(self.theirs)[3]

    def press(self, key: str) -> None:
        """One key."""
        os.write(self.ours, key.encode())

    def until(self, wanted: Any, seconds: float = 60.0) -> None:
        """Take what it prints, until something is so."""
        end = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < end, self.text
            ready, _, _ = select.select([self.ours], [], [], 0.1)
            if ready:
                with contextlib.suppress(OSError):
                    self.text += self._decoder.decode(os.read(self.ours, 65_536))

    def listens(self) -> bool:
        """Keys arrive one by one, unprinted: the loop is about to begin or running."""
        return not self.modes() & (ECHO | CANONICAL)

    def ended(self) -> bool:
        """The process is over."""
        return self.process.poll() is not None

    def close(self) -> None:
        """Nothing is left."""
        self.process.kill()
        self.process.wait()
        for end in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def terminal(bundle: Bundle, tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Terminal]:
    words = [str(bundle[0]), "--arm", "virtual", "--duration", "300", "--record", str(tmp_path)]
    running = Terminal([*words, "--episode-steps", "100000", *getattr(request, "param", [])])
    try:
        running.until(running.listens)
        time.sleep(1.0)  # a few ticks
        yield running
    finally:
        running.close()


def test_key_s_is_the_emergency_stop_and_the_terminal_is_given_back(terminal: Terminal) -> None:
    terminal.press("x")  # means nothing
    terminal.press("s")
    terminal.until(terminal.ended)
    assert terminal.process.returncode == 2
    said = " ".join(terminal.text.split())
    assert "stop latched by the supervisor" in said
    assert "emergency stop (key)" in said
    assert terminal.modes() & ECHO
    assert terminal.modes() & CANONICAL


def test_key_q_comes_to_rest_and_ends(terminal: Terminal) -> None:
    terminal.press("q")
    terminal.until(terminal.ended)
    assert terminal.process.returncode == 0
    assert "stopped by the operator" in " ".join(terminal.text.split())


@pytest.mark.parametrize("terminal", [["--wait-for-arm"]], indirect=True)
def test_space_stops_and_key_a_arms_again(terminal: Terminal, tmp_path: Path, capsys: Any) -> None:
    terminal.press(" ")
    time.sleep(2.0)
    assert not terminal.ended()  # waits for the operator
    terminal.press("a")
    time.sleep(2.0)
    terminal.press("q")
    terminal.until(terminal.ended)
    assert terminal.process.returncode == 0
    recording = next(tmp_path.glob("*.mcap"))
    assert replay_command.main([str(recording), "--explain-only"]) == 0
    said = capsys.readouterr().out
    assert "stopped: emergency stop (key)" in said
    assert "passed" in said or "limited" in said


def test_a_terminal_that_goes_away_ends_the_session(terminal: Terminal, tmp_path: Path, capsys: Any) -> None:
    os.close(terminal.theirs)
    os.close(terminal.ours)  # the cable is out, the window is closed
    assert terminal.process.wait(60) is not None
    recording = next(tmp_path.glob("*.mcap"))
    assert replay_command.main([str(recording), "--explain-only"]) == 0
    said = capsys.readouterr().out
    assert "closed properly" in said
    assert "stopped by the operator" in said


def recorded(bundle: Bundle, folder: Path, *words: str) -> Path:
    serving = [str(bundle[0]), "--arm", "virtual", "--free-run", "--json", "--record", str(folder), *words]
    assert serve_command.main(serving) == 0
    return next(folder.glob("*.mcap"))


def test_film_shows_the_first_episode_and_plays_at_its_speed(bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    session = recorded(bundle, tmp_path / "s", "--episodes", "2", "--episode-steps", "20")
    film = tmp_path / "new folder" / "film.gif"
    words = [sys.executable, "-m", "robot_rl.cli", "replay", str(session), "--film", str(film)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    if run.returncode == 2 and "OpenGL" in run.stderr:
        pytest.skip("no OpenGL backend here")
    assert run.returncode == 0, run.stderr
    assert "film:" in run.stdout
    assert "observations differ by at most 0" in run.stdout
    frames = iio.imread(film)
    assert frames.shape == (10, 240, 320, 3)  # every second of the first episode's 20 steps
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 30  # the arm has moved
    assert iio.immeta(film)["duration"] == pytest.approx(40)  # ms: two steps at 50 Hz


def test_a_film_needs_a_name_that_says_what_it_is(bundle: Bundle, tmp_path: Path) -> None:
    session = recorded(bundle, tmp_path / "s", "--episode-steps", "4")
    with pytest.raises(ConfigError, match=r"film\.txt.*\.gif"):
        replay_command.main([str(session), "--film", str(tmp_path / "film.txt")])
    with pytest.raises(ConfigError, match="leave out --explain-only"):
        replay_command.main([str(session), "--film", str(tmp_path / "film.gif"), "--explain-only"])
