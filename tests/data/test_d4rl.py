"""D4RL files: ends, what lies beyond them, and malformations."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_rl.data.formats.d4rl import read_d4rl
from robot_rl.data.formats.log import ReadOptions
from robot_rl.errors import DataError, SpecMismatch
from tests.data.made import d4rl_file, replace


def test_episodes_end_where_the_file_says(tmp_path: Path) -> None:
    log = read_d4rl(d4rl_file(tmp_path / "x.hdf5"), ReadOptions())
    episodes = list(log.episodes)
    assert [len(e) for e in episodes] == [4, 3, 3]
    assert [e.terminated for e in episodes] == [True, False, False]
    assert [e.final_observed for e in episodes] == [True, False, False]  # what follows a terminal row is never used
    assert any("last 3 rows have no end mark" in note for note in log.notes)


def test_observations_are_never_paired_across_an_end(tmp_path: Path) -> None:
    for episode in read_d4rl(d4rl_file(tmp_path / "x.hdf5"), ReadOptions()).episodes:
        steps = np.diff(episode.observations[:, 0])
        assert set(steps[:-1]) <= {1.0}
        assert steps[-1] == 0.0  # repeated, not borrowed from the next episode


def test_next_observations_are_used_where_there_are_any(tmp_path: Path) -> None:
    path = d4rl_file(tmp_path / "x.hdf5", lambda f: f.__setitem__("next_observations", f["observations"][()] + 1))
    episodes = list(read_d4rl(path, ReadOptions()).episodes)
    assert all(e.final_observed for e in episodes)
    assert episodes[1].observations[-1, 0] == 7.0


def test_an_episode_ends_where_the_next_row_is_not_what_followed(tmp_path: Path) -> None:
    def reset(file: h5py.File) -> None:
        file["next_observations"] = file["observations"][()] + 1
        file["next_observations"][1] = 50.0  # nobody marked this end

    log = read_d4rl(d4rl_file(tmp_path / "x.hdf5", reset), ReadOptions())
    episodes = list(log.episodes)
    assert [(len(e), float(e.observations[-1, 0])) for e in episodes] == [(2, 50.0), (2, 4.0), (3, 7.0), (3, 10.0)]
    assert [e.terminated for e in episodes] == [False, True, False, False]
    assert any(note.startswith("1 rows without an end mark are not followed") for note in log.notes)


def test_another_reward_can_be_chosen(tmp_path: Path) -> None:
    path = d4rl_file(tmp_path / "x.hdf5", lambda f: f.__setitem__("sparse", -np.ones(10)))
    episode = next(read_d4rl(path, ReadOptions(reward_key="sparse")).episodes)
    assert set(episode.rewards) == {-1.0}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rewards", np.zeros(9), "'rewards' has 9 rows, its actions have 10"),
        ("observations", np.zeros((11, 3)), "'observations' has 11 rows"),
        ("actions", np.zeros((0, 2)), "is empty"),
        ("terminals", None, "'terminals' is missing"),
        ("observations", np.full((10, 3), np.inf), "'observations' holds NaN or infinity, first in row 0"),
    ],
)
def test_malformed_files_are_refused(key: str, value: np.ndarray | None, words: str, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        if value is None:
            del file[key]
        else:
            replace(file, key, value)

    with pytest.raises(DataError) as caught:
        read_d4rl(d4rl_file(tmp_path / "bad.hdf5", change), ReadOptions())
    assert words in str(caught.value)
    assert "bad.hdf5" in str(caught.value)


def test_another_environments_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecMismatch, match=r"3 wide and actions 2; 'Hopper-v5' has 11 and 3.*--env"):
        read_d4rl(d4rl_file(tmp_path / "x.hdf5"), ReadOptions(env="Hopper-v5"))
