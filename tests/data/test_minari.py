"""Minari folders of others: what is damaged is told in words or left out."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

pytest.importorskip("pyarrow", reason="the extra 'formats' is not installed")

from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.minari_folder import read_minari
from robot_rl.errors import DataError


@pytest.fixture(params=["arrow", "hdf5"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three episodes of 5 steps, whose actions have no bounds and reach 3 in the last one."""
    path = tmp_path / "minari"
    path.mkdir()
    storage = MinariStorage.new(
        path / "data",
        observation_space=gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        action_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        data_format=request.param,
    )
    buffers = [
        EpisodeBuffer(
            observations=[np.full(3, t, np.float32) for t in range(6)],
            actions=[np.full(2, (1 + i) * (t - 2) / 2, np.float32) for t in range(5)],
            rewards=[0.0] * 5,
            terminations=[False] * 5,
            truncations=[False] * 4 + [True],
        )
        for i in range(3)
    ]
    storage.update_episodes(buffers)
    storage.update_metadata({"dataset_id": "made/by-a-test-v0", "minari_version": "0.5"})
    return path


def test_bounds_are_those_logged(folder: Path) -> None:
    log = read_minari(folder, ReadOptions())
    assert (log.spec.action_low.tolist(), log.spec.action_high.tolist()) == ([-3.0] * 2, [3.0] * 2)
    assert any("the log states no action bounds" in note for note in log.notes)


@pytest.mark.parametrize("folder", ["arrow"], indirect=True)
def test_an_arrow_file_cut_short_is_told_in_words_or_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = (folder / "data" / "1").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError, match=r"episode 1 cannot be read \(ArrowInvalid"):
        list(read_minari(folder, ReadOptions()).episodes)
    asked = ["data", "import", str(folder), "--out", str(tmp_path / "out"), "--skip-damaged", "--json"]
    assert main(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["episodes"], sum("left out" in note for note in said["notes"])) == (2, 1)
    assert load_dataset(tmp_path / "out").spec.action_high.tolist() == [3.0] * 2
    for other in folder.glob("data/*/*.arrow"):
        other.write_bytes(b"")
    with pytest.raises(DataError, match="none of its episodes can be read"):
        read_minari(folder, ReadOptions(damaged=[]))
