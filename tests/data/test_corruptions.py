"""Each known corruption gets its own clear error or finding, at its place, and never a traceback."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset, write_dataset
from robot_rl.data.doctor.diagnose import diagnose
from tests.data.corruptions import CONTENTS, CORRUPTIONS, dataset, smooth_episode
from tests.data.made import SPEC


def test_there_are_enough_of_them() -> None:
    assert len(CORRUPTIONS) >= 60
    assert len({c.said for c in CORRUPTIONS.values()}) > 50


def test_what_they_are_made_from_is_sound(tmp_path: Path) -> None:
    report = diagnose(load_dataset(dataset(lambda e: e, count=12)(tmp_path)))
    assert report.findings == ()
    assert set(report.verdicts) == {"usable"}


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_each_is_found_and_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corruption = CORRUPTIONS[name]
    path = corruption.make(tmp_path)
    status = main(["data", "doctor", str(path), "--json"])
    said = capsys.readouterr()
    if not corruption.check:
        assert status == 2
        assert re.search(corruption.said, " ".join(said.err.split())), said.err
        return
    report = json.loads(said.out)
    hits = [f for f in report["findings"] if re.search(corruption.said, f["what"])]
    assert hits, report["findings"]
    assert (hits[0]["check"], hits[0]["episode"]) == (corruption.check, corruption.episode)
    assert status == (2 if any(f["severity"] == "error" for f in report["findings"]) else 0)
    if corruption.episode is not None and report["episodes"] and hits[0]["severity"] != "note":
        assert report["episode_verdicts"][corruption.episode]["verdict"] != "usable"


MENDED = (
    "nan observation",
    "infinite action",
    "actions in another scale",
    "frozen clock",
    "clock runs back",
    "time gap",
    "standstill",
    "lost sensor",
    "duplicated episode",
    "cut episode",
    "swapped columns",
    "degrees",
)


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_mended_is_and_the_original_stays(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corruption = CONTENTS[name]
    path = corruption.make(tmp_path)
    before = (path / "data" / "main_data.hdf5").read_bytes()
    main(["data", "doctor", str(path), "--fix", "--out", str(tmp_path / "mended"), "--json"])
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert changes != ["nothing needed mending"]
    assert (path / "data" / "main_data.hdf5").read_bytes() == before
    mended = load_dataset(tmp_path / "mended")
    assert [n for n in mended.notes if n.startswith("mended: ")] == [f"mended: {c}" for c in changes]
    assert corruption.check not in {f.check for f in diagnose(mended).findings}


def test_cut_pieces_are_the_rows_around_the_fault(tmp_path: Path) -> None:
    path = CONTENTS["nan observation"].make(tmp_path)
    main(["data", "doctor", str(path), "--fix", "--out", str(tmp_path / "mended")])
    whole = smooth_episode(5)
    first, second = [e for e in load_dataset(tmp_path / "mended") if e.source.startswith("made:5 ")]
    assert np.array_equal(first.observations, whole.observations[:7])
    assert np.array_equal(second.observations, whole.observations[8:])
    assert np.array_equal(second.actions, whole.actions[8:])
    assert (first.success, second.success) == (None, True)
    assert first.source == "made:5 steps 0 to 5"


def test_fix_needs_an_out_that_is_free(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "d", SPEC, [smooth_episode(0)], origin="made").path
    assert main(["data", "doctor", str(path), "--fix"]) == 2
    assert main(["data", "doctor", str(path), "--out", str(tmp_path / "e")]) == 2
    assert main(["data", "doctor", str(path), "--fix", "--out", str(path)]) == 2


def test_the_page_holds_everything_itself(tmp_path: Path) -> None:
    path = CONTENTS["new calibration"].make(tmp_path)
    page = tmp_path / "report.html"
    assert main(["data", "doctor", str(path), "--html", str(page)]) == 0
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "shifts at episode 4" in text
    assert not re.search(r"(src|href)='?(http|/)", text)
    assert text.count("<tr>") > 8
