"""What commands print where no terminal is: whole lines that a log can be searched for."""

from __future__ import annotations

import errno
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from robot_rl import cli
from robot_rl.cli import main
from robot_rl.commands import bench
from robot_rl.console import key_value_table, make_console
from robot_rl.errors import RobotRLError
from robot_rl.registered import load, registered

LONG = "folder-of-a-team-that-names-its-runs-well/" * 5


def test_an_error_stays_one_line_where_no_terminal_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / LONG / "logs.hdf5"
    assert main(["data", "doctor", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert str(path) in lines[0]


@pytest.mark.parametrize("stderr", [False, True])
def test_a_table_is_wide_where_no_terminal_is(stderr: bool, capsys: pytest.CaptureFixture[str]) -> None:
    make_console(stderr=stderr).print(key_value_table("title", {"key": "value " * 25}))
    said = capsys.readouterr()
    assert "value " * 25 in (said.err if stderr else said.out)


def test_columns_of_the_environment_count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    make_console().print("word " * 20)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("words", [["--help"], ["bench", "small-data", "--help"], ["data", "info", "nowhere"]])
def test_a_reader_that_leaves_is_no_fault_of_ours(words: list[str]) -> None:
    program = f"import sys, time; time.sleep(0.3); from robot_rl.cli import main; sys.exit(main({words!r}))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before anything is said
        said = process.stderr.read().decode()
    assert "fault" not in said
    assert "BrokenPipe" not in said
    assert process.returncode == (2 if "nowhere" in words else cli.UNREAD)


def test_a_broken_pipe_that_is_not_our_output_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_words: list[str]) -> int:
        raise BrokenPipeError("the arm hung up")

    monkeypatch.setattr(cli, "_dispatch", broken)
    assert main(["serve"]) == 1
    assert "the arm hung up" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(_words: list[str]) -> int:
        return len((tmp_path / "[dim]").read_text())

    monkeypatch.setattr(cli, "_dispatch", read)
    assert main(["evaluate"]) == 2
    assert f"FileNotFoundError: {tmp_path}/[dim]: No such file or directory." in capsys.readouterr().err
    (tmp_path / "[dim]").mkdir()
    assert main(["evaluate"]) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_a_file_that_may_not_be_read_is_no_fault_of_ours_in_a_librarys_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(_words: list[str]) -> int:
        raise PermissionError(errno.EACCES, "Unable to open file (name = 'lift.hdf5')")  # as h5py says it

    monkeypatch.setattr(cli, "_dispatch", read)
    assert main(["data"]) == 2
    assert capsys.readouterr().err == "PermissionError: Unable to open file (name = 'lift.hdf5').\n"


def test_every_verb_and_bench_says_what_it_is_for() -> None:
    assert set(registered("robot_rl.commands")) == set(cli.SUMMARIES)
    assert set(registered("robot_rl.benches")) == set(bench.SUMMARIES)


def test_an_installation_of_other_code_is_named_with_the_remedy() -> None:
    old = EntryPoint("small-data", "robot_rl.bench.moved:main", "robot_rl.benches")
    with pytest.raises(RobotRLError, match=r"there is no robot_rl\.bench\.moved.*make setup"):
        load(old)
    with pytest.raises(AttributeError):  # a fault of ours
        load(EntryPoint("x", "robot_rl.console:nothing", "robot_rl.benches"))
