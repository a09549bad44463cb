"""What commands print where no terminal is: whole lines that a log can be searched for."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.cli import main
from robot_rl.console import key_value_table, make_console

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
