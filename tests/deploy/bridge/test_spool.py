"""The spool: what was taken is there after any crash, under the same numbers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.bridge import spool as spool_module
from deploy.bridge.spool import Spool, SpoolOptions, open_spools
from robot_rl.errors import BridgeError, SpecMismatch
from tests.deploy.bridge.made import make_spec, numbered

SMALL = SpoolOptions(segment_bytes=500, sync_ms=1e6)  # 9 records a segment


def fill(spool: Spool, first: int, count: int) -> None:
    for row in numbered(first, count):
        spool.append(row.tobytes())


def rewards(spool: Spool) -> list[int]:
    return spool.rows()["reward"].astype(int).tolist()


def only(folder: Path, options: SpoolOptions = SMALL) -> Spool:
    spools = open_spools(folder, make_spec(), options)
    assert len(spools) == 1
    return spools[0]


def test_what_is_appended_is_read_and_deleted_once_acknowledged(tmp_path: Path) -> None:
    spool = only(tmp_path)
    fill(spool, 0, 40)
    assert (spool.oldest, spool.taken, spool.backlog) == (0, 40, 40)
    np.testing.assert_array_equal(spool.rows(), numbered(0, 40))
    block, count = spool.read(5, 100)
    whole = len(spool.folder.joinpath("0".zfill(20) + ".spool").read_bytes()) // (spool.dtype.itemsize + 4)
    assert count == whole - 5  # to the end of the segment
    np.testing.assert_array_equal(np.frombuffer(block, spool.dtype), numbered(5, count))
    assert spool.read(40, 10) == (b"", 0)
    spool.acknowledge(33)
    assert rewards(spool) == list(range(33, 40))
    spool.acknowledge(20)  # late: nothing changes
    spool.acknowledge(1000)  # more than there is
    assert (spool.oldest, spool.backlog) == (40, 0)
    assert len(list(spool.folder.glob("*.spool"))) == 1
    fill(spool, 40, 30)  # used segments are used again, and what they held is not taken for new
    assert rewards(spool) == list(range(40, 70))
    spool.close()
    again = only(tmp_path)
    assert again.session == spool.session
    assert rewards(again) == list(range(40, 70))
    again.close()


WRITER = """
import sys
from pathlib import Path
from deploy.bridge.spool import SpoolOptions, open_spools
from tests.deploy.bridge.made import make_spec, numbered
spool = open_spools(Path(sys.argv[1]), make_spec(), SpoolOptions(segment_bytes=5000))[-1]
print(spool.taken, flush=True)
while True:
    i = spool.append(numbered(spool.taken, 1).tobytes())
    print(i + 1, flush=True)
    if i % 50 == 49:
        spool.acknowledge(i - 70)
"""


def test_killed_actor_goes_on_with_the_same_session_and_the_next_number(tmp_path: Path) -> None:
    said, sessions = 0, set[bytes]()
    for round_ in range(4):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        begun = int(child.stdout.readline())
        assert begun in (said, said + 1)  # one may have been stored and not said
        for _ in range(150 + 77 * round_):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.communicate()[0].split("\n")[:-1]
        said = int(rest[-1]) if rest else said
        spool = only(tmp_path, SpoolOptions(segment_bytes=5000))
        said = max(said, spool.taken)
        assert rewards(spool) == list(range(spool.oldest, spool.taken))
        assert spool.oldest <= said - 70
        sessions.add(spool.session)
        spool.close()
    assert len(sessions) == 1


def test_a_torn_record_was_never_taken(tmp_path: Path) -> None:
    spool = only(tmp_path)
    fill(spool, 0, 5)
    size = spool.dtype.itemsize + 4
    file = next(spool.folder.glob("*.spool"))
    spool.close()
    content = bytearray(file.read_bytes())
    for cut in range(1, size, 7):
        torn = content[:]
        torn[4 * size + cut : 5 * size] = bytes(size - cut)
        file.write_bytes(torn)
        opened = only(tmp_path)
        assert rewards(opened) in ([0, 1, 2, 3], [0, 1, 2, 3, 4])  # the latter where the cut-off bytes were zeros
        assert len(rewards(opened)) == (5 if torn == content else 4)
        opened.close()


def test_after_a_reboot_a_new_session_begins_and_the_old_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots = tmp_path / "boot"
    monkeypatch.setattr(spool_module, "_BOOT_FILE", boots)
    boots.write_text("one")
    first = only(tmp_path / "s")
    fill(first, 0, 20)
    first.close()
    boots.write_text("two")
    old, new = open_spools(tmp_path / "s", make_spec(), SMALL)
    assert old.session == first.session != new.session
    assert (rewards(old), new.taken) == (list(range(20)), 0)
    fill(new, 0, 3)
    old.acknowledge(20)
    for spool in (old, new):
        spool.close()
    boots.write_text("three")
    kept, _newest = open_spools(tmp_path / "s", make_spec(), SMALL)  # the delivered one is gone
    assert kept.session == new.session
    boots.unlink()  # where boots cannot be told apart, every start begins a session
    for spool in (kept, _newest):
        spool.close()
    a, b = open_spools(tmp_path / "s", make_spec(), SMALL)
    assert (a.session, b.taken) == (new.session, 0)
    assert b.session != _newest.session
    for spool in (a, b):
        spool.close()


def test_a_power_cut_ends_the_spool_at_its_first_hole(tmp_path: Path) -> None:
    spool = only(tmp_path)
    fill(spool, 0, 40)
    spool.close()
    files = sorted(spool.folder.glob("*.spool"))
    lost = bytearray(files[1].read_bytes())
    lost[: spool.dtype.itemsize * 2] = bytes(spool.dtype.itemsize * 2)
    files[1].write_bytes(lost)
    opened = only(tmp_path)
    assert rewards(opened) == list(range(int(files[1].stem)))
    fill(opened, opened.taken, 30)
    assert rewards(opened) == list(range(opened.taken))
    opened.close()


def test_full_spool_and_full_disk_stop_the_arm_in_words(tmp_path: Path) -> None:
    spool = only(tmp_path / "a", SpoolOptions(limit_bytes=500))
    with pytest.raises(BridgeError, match=r"is full: \d+ transitions wait .* The arm must stop; nothing is lost"):
        fill(spool, 0, 100)
    taken = spool.taken
    assert rewards(spool) == list(range(taken))
    spool.acknowledge(2)
    fill(spool, taken, 2)
    assert rewards(spool) == list(range(2, taken + 2))
    spool.close()


FULL = """
import resource, sys, time
from pathlib import Path
from deploy.bridge.spool import SpoolOptions, open_spools
from robot_rl.errors import BridgeError
from tests.deploy.bridge.made import make_spec, numbered
spool = open_spools(Path(sys.argv[1]), make_spec(), SpoolOptions(segment_bytes=2000, sync_ms=1e6))[-1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    while True:
        spool.append(numbered(spool.taken, 1).tobytes())
except BridgeError as error:
    assert "cannot take a transition: File too large. The arm must stop" in str(error), error
taken = spool.taken
assert taken > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
spool.append(numbered(spool.taken, 1).tobytes())
print(spool.taken)
"""


def test_full_disk_is_told_before_a_transition_is_half_taken(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    spool = only(tmp_path)
    assert rewards(spool) == list(range(int(done.stdout)))
    spool.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(BridgeError, match=r"File exists. The arm must stop"):
        open_spools(tmp_path / "file", make_spec(), SMALL)


def test_a_failed_sync_stops_the_arm(tmp_path: Path) -> None:
    spool = only(tmp_path, SpoolOptions(sync_ms=0))
    fill(spool, 0, 2)  # synced one by one
    spool._commit.error = OSError(5, "Input/output error")
    with pytest.raises(BridgeError, match=r"Input/output error"):
        fill(spool, 2, 1)
    spool.close()


def test_transitions_of_another_spec_are_not_thrown_away(tmp_path: Path) -> None:
    spool = only(tmp_path)
    fill(spool, 0, 1)
    spool.close()
    with pytest.raises(SpecMismatch, match=r"(?s)'observation': .* has 3 numbers, this run 4.*no learner has stored"):
        open_spools(tmp_path, make_spec(obs_dim=4), SMALL)


def test_half_made_sessions_are_removed(tmp_path: Path) -> None:
    spool = only(tmp_path)
    spool.close()
    shutil.copytree(spool.folder, tmp_path / ".000001-half")
    os.sync()
    only(tmp_path).close()
    assert not (tmp_path / ".000001-half").exists()


def test_a_rehearsal_changes_nothing(tmp_path: Path) -> None:
    spool = only(tmp_path)
    for count in range(1, 21):  # over segment ends
        spool.rehearse(numbered(99, 1)[0].tobytes())
        fill(spool, count - 1, 1)
        spool.rehearse(numbered(99, 1)[0].tobytes())
        assert spool.taken == count
    spool.close()
    again = only(tmp_path)
    assert rewards(again) == list(range(20))
    again.close()
