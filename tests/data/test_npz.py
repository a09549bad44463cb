"""Rollouts in .npz files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.npz_rollouts import read_npz
from robot_rl.data.formats.registry import detect
from robot_rl.errors import DataError, SpecMismatch


def rollouts(path: Path, change: Callable[[dict[str, Any]], object] = lambda d: None) -> Path:
    """A rollout of 4 steps that terminates and one of 1000."""
    arrays: dict[str, Any] = {}
    for number, steps in enumerate((4, 1000)):
        obs = np.arange(steps + 1.0)[:, None] * [1.0, 2.0]
        arrays |= {
            f"ep{number}/observation": obs[:-1],
            f"ep{number}/next_observation": obs[1:].copy(),
            f"ep{number}/action": np.full((steps, 1), 0.5),
            f"ep{number}/reward": np.ones(steps),
            f"ep{number}/terminal": np.arange(steps) == steps - 1,
        }
    change(arrays)
    np.savez(path, **arrays)
    return path


def test_short_rollouts_terminate_and_long_ones_hit_the_time_limit(tmp_path: Path) -> None:
    path = rollouts(tmp_path / "x.npz")
    assert detect(path) == "npz"
    log = read_npz(path, ReadOptions())
    short, long = log.episodes
    assert (len(short), short.terminated, len(long), long.terminated) == (4, True, 1000, False)
    assert short.observations[:, 1].tolist() == [0, 2, 4, 6, 8]
    assert read_npz(path, ReadOptions(env="none")).spec.action_dim == 1
    with pytest.raises(SpecMismatch, match="observations are 2 wide and actions 1; 'Hopper-v5' has 11 and 3"):
        read_npz(path, ReadOptions(env="Hopper-v5"))


def lost_step(arrays: dict[str, Any]) -> None:
    arrays["ep0/next_observation"][1] += 1


MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda d: d.pop("ep1/reward"), "'ep1/reward' is missing"),
    "flat": (lambda d: d.update({"ep0/action": np.zeros(4)}), r"'ep0/action' is float64 of shape \(4,\)"),
    "short": (lambda d: d.update({"ep0/reward": np.zeros(3)}), "ep0 has arrays of several lengths"),
    "nan": (lambda d: d["ep0/reward"].__setitem__(1, np.nan), "'ep0/reward' holds NaN"),
    "lost": (lost_step, "next_observation of row 1 is not observation of row 2"),
    "goes on": (lambda d: d["ep0/terminal"].__setitem__(1, True), "ep0 goes on after terminal in row 1"),
    "objects": (lambda d: d.update({"ep0/extra": np.array([{}], object)}), "cannot be read as .npz"),
    "others": (lambda d: [d.pop(k) for k in list(d)] and d.update(x=np.zeros(2)), "no rollouts 'ep0/observation'"),
    "width": (lambda d: d.update({"ep0/action": np.zeros((4, 2))}), "several widths"),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_files_are_refused(name: str, tmp_path: Path) -> None:
    change, words = MALFORMED[name]
    with pytest.raises(DataError, match=words):
        read_npz(rollouts(tmp_path / "x.npz", change), ReadOptions())


def test_a_damaged_rollout_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    damaged: list[str] = []
    log = read_npz(rollouts(tmp_path / "x.npz", lost_step), ReadOptions(damaged=damaged))
    assert [len(episode) for episode in log.episodes] == [1000]
    assert len(damaged) == 1
    assert "ep0: next_observation of row 1" in damaged[0]

    def all_lost(arrays: dict[str, Any]) -> None:
        lost_step(arrays)
        arrays["ep1/reward"] = np.zeros(3)

    with pytest.raises(DataError, match="none of its 2 rollouts can be read"):
        read_npz(rollouts(tmp_path / "y.npz", all_lost), ReadOptions(damaged=[]))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = rollouts(tmp_path / "x.npz")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        read_npz(path, ReadOptions())
    np.save(tmp_path / "y.npy", np.zeros(3))
    (tmp_path / "y.npy").rename(tmp_path / "y.npz")
    with pytest.raises(DataError, match=r"y\.npz holds one array"):
        read_npz(tmp_path / "y.npz", ReadOptions())
