"""The replay log: dedupe, order, and opening after a cut at any byte."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.replay_frames import HEADER
from robot_rl.data.replay_log import ReplayLog, session_bytes
from robot_rl.errors import DataError, SpecMismatch
from tests.deploy.bridge.made import make_spec, numbered

ONE, TWO = b"1" * 16, b"2" * 16


def rewards(log: ReplayLog, start: int = 0) -> list[int]:
    return log.read(start)["reward"].astype(int).tolist()


def test_what_was_taken_already_is_left_out(tmp_path: Path) -> None:
    with_log = ReplayLog(tmp_path, make_spec())
    assert with_log.last_sequence(ONE) == -1
    assert with_log.append(ONE, 0, numbered(0, 5)) == 5
    assert with_log.append(ONE, 3, numbered(3, 4)) == 2  # 3 and 4 are there
    assert with_log.append(ONE, 0, numbered(0, 7)) == 0
    assert with_log.append(TWO, 100, numbered(100, 2)) == 2  # a session may begin anywhere
    with pytest.raises(DataError, match=r"is at transition 7 .* but 9 came next"):
        with_log.append(ONE, 9, numbered(9, 1))
    assert with_log.append(ONE, 9, numbered(9, 1), after_gap=True) == 1
    assert rewards(with_log) == [0, 1, 2, 3, 4, 5, 6, 100, 101, 9]
    assert (with_log.last_sequence(ONE), with_log.last_sequence(TWO.hex())) == (9, 101)
    with_log.close()


def test_reopened_log_knows_rows_and_sessions_over_segments(tmp_path: Path) -> None:
    log = ReplayLog(tmp_path, make_spec(), segment_bytes=400)
    for i in range(0, 60, 3):
        log.append(ONE, i, numbered(i, 3))
    log.close()
    assert len(list(tmp_path.glob("*.rows"))) > 5
    again = ReplayLog(tmp_path, make_spec(), segment_bytes=400)
    assert len(again) == again.durable == 60
    assert again.last_sequence(ONE) == 59
    np.testing.assert_array_equal(again.read(), numbered(0, 60))
    for start in (0, 1, 2, 3, 31, 59, 60):
        assert rewards(again, start) == list(range(start, 60))
        assert again.read(start, 7)["reward"].tolist() == list(range(start, min(60, start + 7)))
    with pytest.raises(DataError, match=r"no transition 61 .* holds 60"):
        again.read(61)
    assert again.append(ONE, 58, numbered(58, 4)) == 2
    assert rewards(again, 58) == [58, 59, 60, 61]
    again.close()


def test_opens_to_the_last_whole_frame_after_a_cut_at_any_byte(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = make_spec(1, 1)
    log = ReplayLog(tmp_path / "whole", small)
    ends = [0]
    for first, count in ((0, 2), (2, 1), (3, 3)):
        log.append(ONE, first, numbered(first, count, small))
        ends.append(ends[-1] + HEADER.size + count * log.dtype.itemsize)
    log.close()
    counts = [0, 2, 3, 6]
    for cut in range(ends[-1] + 1):
        folder = tmp_path / "cut"
        shutil.copytree(tmp_path / "whole", folder)
        os.truncate(next(folder.glob("*.rows")), cut)
        with caplog.at_level(logging.CRITICAL, "robot_rl"):
            opened = ReplayLog(folder, small)
        whole = counts[max(i for i, end in enumerate(ends) if end <= cut)]
        assert len(opened) == whole
        assert opened.last_sequence(ONE) == whole - 1
        assert opened.append(ONE, whole, numbered(whole, 2, small)) == 2
        assert rewards(opened) == list(range(whole + 2))
        opened.close()
        shutil.rmtree(folder)


@settings(max_examples=25)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_never_gets_through(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = ReplayLog(folder, make_spec())
    for i in range(4):
        log.append(ONE, i, numbered(i, 1))
    log.close()
    file = next(folder.glob("*.rows"))
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= flip
    file.write_bytes(content)
    opened = ReplayLog(folder, make_spec())
    unchecked = at % len(content) % (len(content) // 4) in range(36, 40)  # the spare bytes of a header
    assert rewards(opened) == list(range(4 if unchecked else at % len(content) // (len(content) // 4)))
    opened.close()


def test_damage_before_the_last_segment_is_refused_and_the_tail_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ReplayLog(tmp_path, make_spec(), segment_bytes=1)
    for i in range(3):
        log.append(ONE, i, numbered(i, 1))
    log.close()
    last = sorted(tmp_path.glob("*.rows"))[-1]
    last.write_bytes(last.read_bytes() + b"half a frame")
    with caplog.at_level(logging.WARNING):
        again = ReplayLog(tmp_path, make_spec())
    assert "12 bytes after transition 3 are no whole record" in caplog.text
    assert next(tmp_path.glob("*.cut*")).read_bytes() == b"half a frame"
    assert rewards(again) == [0, 1, 2]
    again.close()
    first = sorted(tmp_path.glob("*.rows"))[0]
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is damaged at byte 0"):
        ReplayLog(tmp_path, make_spec())
    first.unlink()
    with pytest.raises(DataError, match=r"transitions 0 to 0 are missing; was a file removed"):
        ReplayLog(tmp_path, make_spec())


@pytest.mark.parametrize("count", range(9))
def test_truncate_goes_back_to_a_checkpoint(tmp_path: Path, count: int) -> None:
    log = ReplayLog(tmp_path, make_spec(), segment_bytes=300)
    for first, size in ((0, 2), (2, 3), (5, 1)):
        log.append(ONE, first, numbered(first, size))
    log.append(TWO, 0, numbered(50, 2))
    log.truncate(count)
    for _ in range(2):  # as it is, and as it is opened again
        expected = [0, 1, 2, 3, 4, 5, 50, 51][:count]
        assert rewards(log) == expected
        assert log.durable == len(log) == count
        assert log.last_sequence(ONE) == min(count, 6) - 1
        assert log.last_sequence(TWO) == max(count - 6, 0) - 1
        log.close()
        log = ReplayLog(tmp_path, make_spec(), segment_bytes=300)
    assert log.append(ONE, min(count, 6), numbered(min(count, 6), 1)) == 1
    with pytest.raises(DataError, match=r"it cannot be cut to 99"):
        log.truncate(99)
    log.close()


def test_other_specs_and_second_writers_are_refused_in_words(tmp_path: Path) -> None:
    log = ReplayLog(tmp_path, make_spec())
    with pytest.raises(DataError, match=r"is in use by another process"):
        ReplayLog(tmp_path, make_spec())
    with pytest.raises(DataError, match=r"The rows have layout"):
        log.append(ONE, 0, numbered(0, 1, make_spec(obs_dim=4)))
    log.close()
    log.close()
    with pytest.raises(SpecMismatch, match=r"(?s)'observation': .* has 3 numbers, this run 4.*Give the log of this"):
        ReplayLog(tmp_path, make_spec(obs_dim=4))
    (tmp_path / "log.json").write_text("{}")
    with pytest.raises(DataError, match=r"is not the header of the replay log"):
        ReplayLog(tmp_path, make_spec())


def test_sessions_are_sixteen_bytes() -> None:
    assert session_bytes("00" * 16) == bytes(16)
    for bad in (b"short", "zz", "00"):
        with pytest.raises(DataError, match=r"[Ss]ession"):
            session_bytes(bad)


def test_group_commit_catches_up_and_zero_syncs_each_append(tmp_path: Path) -> None:
    grouped = ReplayLog(tmp_path / "a", make_spec(), sync_ms=20)
    grouped.append(ONE, 0, numbered(0, 3))
    deadline = time.monotonic() + 10
    while grouped.durable < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert grouped.durable == 3
    grouped.close()
    each = ReplayLog(tmp_path / "b", make_spec(), sync_ms=0)
    each.append(ONE, 0, numbered(0, 3))
    assert each.durable == 3
    each.close()
    late = ReplayLog(tmp_path / "c", make_spec(), sync_ms=1e6)
    late.append(ONE, 0, numbered(0, 3))
    assert late.durable == 0
    late.sync()
    assert late.durable == 3
    late.close()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from robot_rl.data.replay_log import ReplayLog
from robot_rl.errors import DataError
from tests.deploy.bridge.made import make_spec, numbered
log = ReplayLog(Path(sys.argv[1]), make_spec(), sync_ms=0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
i = 0
try:
    while True:
        log.append(b"1" * 16, i, numbered(i, 2))
        i += 2
except DataError as error:
    assert "cannot take more transitions" in str(error), error
assert i == len(log) > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
assert log.append(b"1" * 16, i, numbered(i, 2)) == 2
print(len(log))
log.close()
"""


def test_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    log = ReplayLog(tmp_path, make_spec())
    assert rewards(log) == list(range(int(done.stdout)))
    assert not list(tmp_path.glob("*.cut*"))
    log.close()


WRITER = """
import sys
from pathlib import Path
from robot_rl.data.replay_log import ReplayLog
from tests.deploy.bridge.made import make_spec, numbered
log = ReplayLog(Path(sys.argv[1]), make_spec(), segment_bytes=4096)
i = log.last_sequence(b"1" * 16) + 1
while True:
    log.append(b"1" * 16, i, numbered(i, 3))
    i += 3
    print(i, flush=True)
"""


def test_killed_writer_loses_nothing_it_had_appended(tmp_path: Path) -> None:
    said = 0
    for round_ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert child.stdout is not None
        for _ in range(20 + 37 * round_):
            said = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.communicate()[0].split("\n")[:-1]
        said = int(rest[-1]) if rest else said
        log = ReplayLog(tmp_path, make_spec())
        assert len(log) >= said
        assert rewards(log) == list(range(len(log)))
        log.close()
