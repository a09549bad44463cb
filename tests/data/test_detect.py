"""--format auto."""

from collections.abc import Callable
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.data.dataset import write_dataset
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import detect, open_log
from robot_rl.errors import ConfigError, DataError
from tests.data.made import SPEC, d4rl_file, make_episode, robomimic_file


def test_each_format_is_recognised(tmp_path: Path) -> None:
    assert detect(robomimic_file(tmp_path / "a.hdf5")) == "robomimic"
    assert detect(d4rl_file(tmp_path / "b.hdf5")) == "d4rl"
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        file["data/demo_1/states"], file["data/demo_1/actions"] = np.zeros((3, 5)), np.zeros((3, 2))
    assert detect(tmp_path / "c.hdf5") == "robosuite"
    write_dataset(tmp_path / "d", SPEC, [make_episode()], origin="made")
    assert detect(tmp_path / "d") == "minari"


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("notes.txt", "without Minari's data/metadata.json, LeRobot's meta/info.json, and RLDS's features.json"),
    ],
)
def test_folders_that_cannot_be_read_yet_are_named(marker: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "log" / marker).parent.mkdir(parents=True)
    (tmp_path / "log" / marker).write_text("{}")
    with pytest.raises(DataError, match=words):
        detect(tmp_path / "log")


def test_recordings_and_unknown_hdf5_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.mcap").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as MCAP: it ends in the middle of a record"):
        open_log(tmp_path / "x.mcap", "auto", ReadOptions())
    with pytest.raises(DataError, match="not a session recorded by `robot-rl serve`"):
        open_log(tmp_path / "x.mcap", "mcap", ReadOptions())
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["images"] = [1]
    with pytest.raises(DataError, match=r"of no known kind.*there are: images"):
        detect(tmp_path / "x.hdf5")
    with pytest.raises(DataError, match="does not exist"):
        open_log(tmp_path / "nowhere", "auto", ReadOptions())


@pytest.mark.parametrize(("argv", "status"), [([], 2), (["--help"], 0), (["improt"], 2), (["info", "nowhere"], 2)])
def test_the_data_command_answers(argv: list[str], status: int) -> None:
    assert main(["data", *argv]) == status


def test_a_dataset_of_ours_reads_back_through_minari(tmp_path: Path) -> None:
    episodes = [make_episode(0), make_episode(1, terminated=True, truncated=False)]
    dataset = write_dataset(tmp_path / "d", SPEC, episodes, origin="made")
    assert minari.MinariDataset(dataset.path / "data").total_steps == 80
    log = open_log(tmp_path / "d", "auto", ReadOptions())
    assert log.spec == SPEC
    for before, after in zip(episodes, log.episodes, strict=True):
        assert np.array_equal(before.observations, after.observations)
        assert before.terminated == after.terminated


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (d4rl_file, {"filter": "train"}, "--filter is for robomimic, lerobot, rlds; .* is read as d4rl"),
        (robomimic_file, {"reward_key": "sparse"}, "--reward-key is for d4rl; .* is read as robomimic"),
        (robomimic_file, {"topics": Path("topics.yaml")}, "--topics is for bag; .* is read as robomimic"),
    ],
)
def test_an_option_of_another_format_is_refused(
    make: Callable[[Path], Path], options: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_log(make(tmp_path / "x.hdf5"), "auto", ReadOptions(**options))  # type: ignore[arg-type]
