"""Every planted fault is found and named; a clean dataset has none."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.data.dataset import write_dataset
from robot_rl.data.doctor.diagnose import diagnose
from robot_rl.data.doctor.report import Report
from robot_rl.data.episode import Episode
from tests.data.made import SPEC, make_episode

CLEAN = [make_episode(i, 40 + i) for i in range(6)]


def examine(tmp_path: Path, episodes: list[Episode]) -> Report:
    return diagnose(write_dataset(tmp_path / "d", SPEC, episodes, origin="made"))


def changed(name: str, where: object, value: object, **more: object) -> Episode:
    base = make_episode(99)
    array = np.array(getattr(base, name))
    array[where] = value
    return make_episode(99, **{name: array}, **more)


def test_a_clean_dataset_is_usable(tmp_path: Path) -> None:
    report = examine(tmp_path, CLEAN)
    assert report.findings == ()
    assert (report.verdict, report.exit_status) == ("usable", 0)


def frozen_clock() -> np.ndarray:
    stamps = np.arange(41) / 20.0
    stamps[20] = stamps[19]
    return stamps


def gapped_clock() -> np.ndarray:
    stamps = np.arange(41) / 20.0
    stamps[11:] += 0.5
    return stamps


ERRORS = {
    "not finite": (changed("observations", (7, 4), np.nan), "first joint_vel/1 in row 7"),
    "actions out of bounds": (changed("actions", (3, 1), 4.0), "most in targets/b"),
    "clock": (make_episode(99, timestamps=frozen_clock()), "first by 0.0000 s at row 19"),
    "time gaps": (make_episode(99, timestamps=gapped_clock()), "the first of 0.5500 s at row 10"),
}


@pytest.mark.parametrize("check", list(ERRORS))
def test_errors_are_found_in_their_episode(check: str, tmp_path: Path) -> None:
    episode, words = ERRORS[check]
    report = examine(tmp_path, [*CLEAN, episode])
    assert [(f.check, f.episode, f.severity) for f in report.findings] == [(check, 6, "error")]
    assert words in report.findings[0].what
    assert report.exit_status == 2
    assert report.verdict == "not usable: 1 error"


def dead(episode: Episode) -> Episode:
    observations = np.array(episode.observations)
    observations[:, 2] = 0.5
    return Episode(
        observations=observations, actions=episode.actions, rewards=episode.rewards, success=True, source=episode.source
    )


def pressed(episode: Episode) -> Episode:
    actions = np.array(episode.actions)
    actions[: len(actions) // 2, 0] = 1.0
    return Episode(observations=episode.observations, actions=actions, rewards=episode.rewards, success=True)


def standing() -> Episode:
    base = make_episode(98, 80)
    observations, actions = np.array(base.observations), np.array(base.actions)
    observations[20:60], actions[20:60] = observations[20], actions[20]
    return make_episode(98, 80, observations=observations, actions=actions)


WARNINGS = {
    "zero variance": ([dead(e) for e in CLEAN], "joint_pos/2"),
    "saturated actions": ([pressed(e) for e in CLEAN], "targets/a"),
    "duplicates": ([*CLEAN, make_episode(2, 42)], "as episode 2"),
    "short episodes": ([*CLEAN, make_episode(99, 3)], "3 steps; the median is"),
    "idle": ([*CLEAN, standing()], "nothing moves for 39 steps from row 20"),
    "success": ([make_episode(i, 40, success=False) for i in range(3)], "none of 3 episodes"),
    "outliers": ([*CLEAN, changed("observations", (5, 0), 1e4)], "joint_pos/0"),
    "rate": ([*CLEAN, make_episode(99, timestamps=np.arange(41) / 15.0)], "rows come at 15.00 Hz, the spec says 20 Hz"),
}


@pytest.mark.parametrize("check", list(WARNINGS))
def test_warnings_are_found_and_named(check: str, tmp_path: Path) -> None:
    episodes, words = WARNINGS[check]
    report = examine(tmp_path, episodes)
    assert [f.check for f in report.findings] == [check]
    assert words in report.findings[0].what
    assert report.exit_status == 0


def test_missing_labels_are_a_note(tmp_path: Path) -> None:
    report = examine(tmp_path, [make_episode(i, success=None) for i in range(3)])
    assert [(f.check, f.severity) for f in report.findings] == [("success", "note")]
    assert report.verdict == "usable"


def test_an_unreadable_episode_is_a_finding_not_a_crash(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", SPEC, CLEAN, origin="made")
    with h5py.File(dataset.path / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
    report = diagnose(dataset)
    assert [(f.check, f.episode) for f in report.findings] == [("unreadable", 1)]


def test_the_command_answers_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examine(tmp_path, [*CLEAN, ERRORS["not finite"][0]])
    assert main(["data", "doctor", str(tmp_path / "d")]) == 2
    said = capsys.readouterr().out
    assert "not usable: 1 error" in said
    assert "remedy:" in said
    assert main(["data", "doctor", str(tmp_path / "d"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["episode"] == 6
    assert main(["data", "info", str(tmp_path / "d"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 7
