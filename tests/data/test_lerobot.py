"""LeRobot v2.1 and v3.0: the rows decide, every stated number is held against them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra 'formats' is not installed")

import pyarrow as pa
import pyarrow.parquet as pq

from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.formats.lerobot.reader import read_lerobot
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import detect, open_log
from robot_rl.errors import DataError, RobotRLError
from tests.data.made import SHARED
from tests.data.made_lerobot import LENGTHS, rows, v21, v30

WRITERS = {"v2.1": v21, "v3.0": v30}


def read(root: Path, **options: Any) -> tuple[list, list[str], Any]:
    log = read_lerobot(root, ReadOptions(**options))
    return list(log.episodes), list(log.notes), log.spec


@pytest.mark.parametrize("version", WRITERS)
def test_rows_become_episodes_with_names_rate_and_tasks(version: str, tmp_path: Path) -> None:
    root = WRITERS[version](tmp_path / "d")
    assert detect(root) == "lerobot"
    episodes, notes, spec = read(root)
    assert [len(e) for e in episodes] == list(LENGTHS)
    assert spec.obs_names == [f"observation.state/{n}" for n in ("pan", "lift", "grip")]
    assert spec.action_names == ["action/dx", "action/dy"]
    assert spec.rate_hz == 20.0
    for index, episode in enumerate(episodes):
        assert episode.observations[:-1, 0].tolist() == [100.0 * index + t for t in range(LENGTHS[index])]
        assert np.array_equal(episode.observations[-1], episode.observations[-2])  # o_T is not logged
        assert not episode.final_observed
        assert episode.actions[:, 1].tolist() == [-2.0 * t for t in range(LENGTHS[index])]
        assert np.allclose(np.diff(episode.timestamps), 1 / 20, atol=1e-6)
    assert spec.action_low.tolist() == [0.0, -28.0]  # of the longest episode, 15 rows
    assert spec.action_high.tolist() == pytest.approx([1.4, 0.0])
    said = " ".join(notes)
    assert "2 tasks, which the observation does not tell apart: pick; place" in said
    assert "rewards are stored as 0" in said


@pytest.mark.parametrize("version", WRITERS)
def test_reward_done_and_success_are_taken_where_they_are(version: str, tmp_path: Path) -> None:
    def add(columns: dict[str, Any], won: bool) -> None:
        last = np.arange(len(columns["index"])) == len(columns["index"]) - 1
        columns["next.reward"], columns["next.done"] = last * 3.0, last
        columns["next.success"] = last & won

    def change(parts: dict[Any, Any]) -> None:
        found = [parts[i] for i in range(4)] if version == "v2.1" else [e for file in parts["files"] for e in file]
        for index, columns in enumerate(found):
            add(columns, won=index != 1)

    def describe(about: dict[str, Any]) -> None:
        for key in ("next.reward", "next.done", "next.success"):
            about["features"][key] = {"dtype": "float32" if "reward" in key else "bool", "shape": [1], "names": None}

    episodes, _, _ = read(WRITERS[version](tmp_path / "d", change, describe))
    assert [e.success for e in episodes] == [True, False, True, True]
    assert [e.return_ for e in episodes] == [3.0] * 4
    assert [e.terminated for e in episodes] == [True, False, True, True]  # done without success: the time ran out
    assert [e.final_observed for e in episodes] == [True, False, True, True]


@pytest.mark.parametrize("version", WRITERS)
def test_splits_choose_episodes(version: str, tmp_path: Path) -> None:
    root = WRITERS[version](tmp_path / "d")
    assert [len(e) for e in read(root, filter="val")[0]] == [7]
    with pytest.raises(DataError, match=r"no split 'test' in info.json; there are: train \(0:3\), val \(3:4\)"):
        read(root, filter="test")


NAMES: list[tuple[Any, list[str]]] = [
    (["a", "b", "c"], ["a", "b", "c"]),
    ([["a", "b", "c"]], ["a", "b", "c"]),
    ({"motors": ["a", "b", "c"]}, ["a", "b", "c"]),
    ({"arm": ["a", "b"], "hand": ["c"]}, ["a", "b", "c"]),
    ({"c": 2, "a": 0, "b": 1}, ["a", "b", "c"]),
    (None, ["0", "1", "2"]),
    (["state"], ["0", "1", "2"]),
    (["a", "a", "b"], ["0", "1", "2"]),
]


@pytest.mark.parametrize(("names", "expected"), NAMES)
def test_names_come_in_every_form(names: Any, expected: list[str], tmp_path: Path) -> None:
    def describe(about: dict[str, Any]) -> None:
        about["features"]["observation.state"]["names"] = names

    _, notes, spec = read(v30(tmp_path / "d", change_info=describe))
    assert list(spec.observation[0].names) == expected
    numbered = any("its names do not tell apart" in n for n in notes)
    assert numbered == (names is not None and expected[0] == "0")


def test_tasks_may_be_a_column_or_an_index(tmp_path: Path) -> None:
    def column(parts: dict[str, Any]) -> None:
        parts["tasks"] = {"task": ["pick", "place"], "task_index": [0, 1]}

    assert any("pick; place" in n for n in read(v30(tmp_path / "d", column))[1])


def test_other_recorders_keys_and_further_observations(tmp_path: Path) -> None:
    def rename(parts: dict[str, Any]) -> None:
        for file in parts["files"]:
            for columns in file:
                columns["state"], columns["actions"] = columns.pop("observation.state"), columns.pop("action")

    def describe(about: dict[str, Any]) -> None:
        features = about["features"]
        features["state"], features["actions"] = features.pop("observation.state"), features.pop("action")

    _, _, spec = read(v30(tmp_path / "a", rename, describe))
    assert [e.name for e in (*spec.observation, *spec.action)] == ["state", "actions"]

    def force(parts: dict[str, Any]) -> None:
        for file in parts["files"]:
            for columns in file:
                columns["observation.force"] = columns["index"] * 0.5

    def with_force(about: dict[str, Any]) -> None:
        about["features"]["observation.force"] = {"dtype": "float64", "shape": [1], "names": None}

    root = v30(tmp_path / "b", force, with_force)
    assert read(root)[2].obs_dim == 4
    episodes, notes, spec = read(root, obs_keys=("observation.force",))
    assert spec.obs_names == ["observation.force"]
    assert episodes[1].observations[0, 0] == 0.5 * LENGTHS[0]
    assert "not part of the observation: observation.state (--obs-keys chooses)" in notes


def test_tables_of_numbers_are_named_where_a_row_is_missing(tmp_path: Path) -> None:
    root = v30(tmp_path / "a", change_info=lambda about: about["features"]["observation.state"].update(shape=[2, 3]))
    with pytest.raises(DataError, match=r"no observation column.*left out: 'observation.state' \[2, 3\]"):
        read(root)


def set_info(**values: Any) -> Any:
    return lambda about: about.update(values)


def listing(key: str, value: Any, episode: int = 1) -> Any:
    return lambda parts: parts["listing"][episode].__setitem__(key, value)


def column(key: str, row: int, value: Any) -> Any:
    """Change one value of episode 1."""

    def change(parts: dict[Any, Any]) -> None:
        columns = parts["files"][0][1] if "files" in parts else parts[1]
        columns[key] = list(columns[key])
        columns[key][row] = value

    return change


CONTRADICTIONS: dict[str, tuple[str, Any, Any, str]] = {
    "total_frames": ("v3.0", None, set_info(total_frames=14983), "total_frames 14983, the data files hold 43"),
    "total_episodes": ("v2.1", None, set_info(total_episodes=5), "total_episodes 5, the data files hold 4"),
    "length": ("v3.0", listing("length", 8), None, "the listing gives episode 1 8 rows, file-000.parquet has 9"),
    "length v2": (
        "v2.1",
        listing("length", 8),
        None,
        "the listing gives episode 1 8 rows, episode_000001.parquet has 9",
    ),
    "range": ("v3.0", listing("dataset_from_index", 3), None, "rows 3 to 21, which are not its 9 rows"),
    "shifted": (
        "v3.0",
        lambda p: p["listing"][1].update(dataset_from_index=13, dataset_to_index=22),
        None,
        "starts episode 1 at index 13, its rows at 12",
    ),
    "stale file": ("v3.0", listing("data/file_index", 1), None, "puts episode 1 into file-001.parquet of chunk-000"),
    "listed twice": ("v3.0", listing("episode_index", 0), None, "lists episode 0 a second time"),
    "unlisted": ("v3.0", lambda p: p["listing"].pop(), None, "1 episodes have rows but are not listed"),
    "no rows": (
        "v2.1",
        lambda p: p.pop(2),
        set_info(total_episodes=3, total_frames=28),
        "listed episodes have no rows",
    ),
    "fps": ("v2.1", None, set_info(fps=50), "says fps 50, the timestamps come at 20.00 Hz"),
    "clock": ("v3.0", column("timestamp", 4, 0.0), None, "timestamps of episode 1 stand still or run back 1 times"),
    "frame_index": ("v2.1", column("frame_index", 3, 7), None, "frame_index of episode 1 is 7 in its row 3"),
    "width": (
        "v3.0",
        None,
        lambda a: a["features"]["action"].update(shape=[5]),
        "info.json gives 'action' 5 elements, the rows have 2",
    ),
    "task": ("v3.0", column("task_index", 2, 9), None, "rows name task 9, the tasks file lists 0, 1"),
}


@pytest.mark.parametrize("name", list(CONTRADICTIONS))
def test_contradictions_are_refused_or_read_by_the_rows_under_a_flag(name: str, tmp_path: Path) -> None:
    version, change, describe, words = CONTRADICTIONS[name]
    root = WRITERS[version](tmp_path / "d", change or (lambda d: None), describe or (lambda d: None))
    with pytest.raises(DataError, match="contradicts itself") as caught:
        read(root)
    assert words in str(caught.value)
    assert "--trust-rows" in str(caught.value)
    episodes, notes, spec = read(root, trust_rows=True)
    assert [len(e) for e in episodes] == [n for i, n in enumerate(LENGTHS) if name != "no rows" or i != 2]
    assert any(words in note for note in notes)
    assert spec.rate_hz == pytest.approx(20.0)


def drop_column(parts: dict[str, Any]) -> None:
    for columns in parts["files"][1]:
        del columns["action"]


def widen(parts: dict[str, Any]) -> None:
    for columns in parts["files"][1]:
        columns["observation.state"] = [[*r, 0.0] for r in columns["observation.state"]]


def ragged(parts: dict[str, Any]) -> None:
    parts["files"][0][1]["observation.state"][3] = [1.0]


def gap(parts: dict[str, Any]) -> None:
    parts["files"][0][1]["action"][2] = None


def twice(parts: dict[str, Any]) -> None:
    parts["files"][1][1] = rows(0, LENGTHS[3], 36)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "column of one file": (drop_column, None, "file-001.parquet has no column action, which file-000.parquet has"),
    "width of one file": (widen, None, "'observation.state' has 4 numbers a row, 3 in the first file"),
    "ragged": (ragged, None, "(episode 1): column 'observation.state' holds 3 numbers in row 0 but 1 in row 3"),
    "missing": (gap, None, "column 'action' has 1 empty rows"),
    "nan": (
        column("action", 0, [np.nan, 0.0]),
        None,
        "(episode 1): column 'action' holds NaN or infinity, first in row 0",
    ),
    "two places": (twice, None, "the rows of episode 0 stand in two places"),
    "text": (None, lambda a: a["features"].update(action={"dtype": "string", "shape": [1]}), "no action column"),
    "no features": (None, set_info(features=None), "'features' is NoneType; expected an object"),
    "fps": (None, set_info(fps=0), "fps is 0; expected a rate above 0"),
    "version": (None, set_info(codebase_version="v1.6"), "codebase_version is 'v1.6'; v2.0, v2.1 and v3.0 are read"),
    "path": (None, set_info(data_path="../../{file_index}.parquet"), "must stay inside the dataset"),
    "field": (None, set_info(data_path="{x.__class__}"), "may use chunk_index"),
    "total": (None, set_info(total_frames="many"), "total_frames is 'many'; expected a count"),
    "shape": (None, lambda a: a["features"]["action"].update(shape="wide"), "has shape 'wide'"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_read_is_refused_in_words(name: str, tmp_path: Path) -> None:
    change, describe, words = REFUSED[name]
    root = v30(tmp_path / "d", change or (lambda d: None), describe or (lambda d: None))
    with pytest.raises(DataError) as caught:
        read(root, trust_rows=True)
    assert words in str(caught.value)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    for number, (path, content, words) in enumerate(
        [
            ("meta/info.json", b"{", "cannot be read as JSON"),
            ("meta/info.json", b"[1]", "holds list, not an object"),
            ("meta/tasks.parquet", b"PAR1", "cannot be read as parquet"),
            ("data/chunk-000/file-001.parquet", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
            ("meta/episodes/chunk-000/file-000.parquet", None, "no parquet file under meta/episodes"),
        ]
    ):
        root = v30(tmp_path / str(number))
        if content is None:
            (root / path).unlink()
        else:
            (root / path).write_bytes(content)
        with pytest.raises(DataError, match=words):
            read(root)


def _cut_short(root: Path) -> None:
    file = root / "data/chunk-000/file-001.parquet"
    file.write_bytes(file.read_bytes()[:-200])


DAMAGED: dict[str, tuple[Any, Any, set[int], str]] = {
    "nan in an action": (column("action", 0, [np.nan, 0.0]), None, {0, 2, 3}, "(episode 1): column 'action' holds NaN"),
    "nan in an observation": (
        column("observation.state", 4, [0.0, np.inf, 0.0]), None, {0, 2, 3}, "column 'observation.state' holds NaN"
    ),
    "clock": (column("timestamp", 4, 0.0), None, {0, 2, 3}, "timestamps of episode 1 stand still"),
    "length": (lambda p: p["listing"][3].update(length=9), None, {0, 1, 2}, "gives episode 3 9 rows"),
    "file cut short": (None, _cut_short, {0, 1}, "file-001.parquet cannot be read as parquet"),
    "column of one file": (drop_column, None, {0, 1}, "file-001.parquet has no column action"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged_episodes_are_left_out_where_that_is_asked_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, harm, kept, words = DAMAGED[name]
    root = v30(tmp_path / "d", change or (lambda d: None))
    if harm is not None:
        harm(root)
    command = ["data", "import", str(root), "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 2
    assert "--skip-damaged" in capsys.readouterr().err
    assert main([*command, "--skip-damaged"]) == 0
    said = json.loads(capsys.readouterr().out)
    (why,) = [note for note in said["notes"] if note.startswith("left out: ")]
    assert words in why
    episodes = load_dataset(tmp_path / "out")
    assert {int(e.source.rpartition(" ")[2]) for e in episodes} == kept
    for episode in episodes:
        assert episode.observations[0, 0] == 100 * int(episode.source.rpartition(" ")[2])


def test_the_first_file_may_be_the_damaged_one_but_not_all(tmp_path: Path) -> None:
    root = v21(tmp_path / "d")
    files = sorted((root / "data/chunk-000").iterdir())
    files[0].write_bytes(b"")
    damaged: list[str] = []
    episodes, _, _ = read(root, damaged=damaged)
    assert len(episodes) == 3
    assert "episode_000000.parquet" in damaged[0]
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"no data file can be read. .*episode_000000.parquet cannot be read"):
        read(root, damaged=[])


def test_rows_in_two_places_are_refused_even_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the rows of episode 0 stand in two places"):
        read(v30(tmp_path / "d", twice), damaged=[])


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    root = v30(tmp_path / "d", change_info=set_info(total_episodes=0, total_frames=0))
    for file in (root / "data/chunk-000").iterdir():
        pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(DataError, match="holds no episodes"):
        read(root)


def test_rows_without_times_or_tasks_take_the_stated_rate(tmp_path: Path) -> None:
    def strip(parts: dict[Any, Any]) -> None:
        for index in range(4):
            for key in ("timestamp", "task_index", "index", "frame_index", "episode_index"):
                del parts[index][key]

    def describe(about: dict[str, Any]) -> None:
        for key in ("timestamp", "task_index", "index", "frame_index", "episode_index"):
            del about["features"][key]

    episodes, notes, spec = read(v21(tmp_path / "d", strip, describe))
    assert [len(e) for e in episodes] == list(LENGTHS)
    assert (episodes[0].timestamps, spec.rate_hz) == (None, 20.0)
    assert "no timestamps: the rate is info.json's 20 Hz" in notes


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real logs at ../shared/data")
class TestRealLogs:
    def test_counts_of_the_g1_episodes_equal_its_own(self) -> None:
        root = SHARED / "lerobot_v21_g1"
        log = open_log(root, "auto", ReadOptions())
        about = json.loads((root / "meta/info.json").read_text())
        lengths = [json.loads(line)["length"] for line in (root / "meta/episodes.jsonl").read_text().splitlines()]
        assert (log.count, sum(lengths)) == (about["total_episodes"], about["total_frames"]) == (100, 35965)
        first = next(log.episodes)
        assert len(first) == lengths[0]
        assert log.spec.obs_names[0] == "observation.state/kLeftShoulderPitch"
        raw = pq.read_table(root / "data/chunk-000/episode_000000.parquet")
        assert np.array_equal(first.actions, np.array(raw["action"].to_pylist(), np.float32))

    def test_the_inconsistent_dataset_is_refused_with_both_values_and_the_remedy(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["data", "import", str(SHARED / "lerobot_v30_inconsistent"), "--out", str(tmp_path / "d")]
        assert main(words) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "total_frames 14983, the data files hold 899" in said
        assert not (tmp_path / "d").exists()
        assert main([*words, "--trust-rows", "--json"]) == 0
        dataset = load_dataset(tmp_path / "d")
        assert (len(dataset), dataset.total_steps) == (3, 899)
        assert any("14983" in note for note in dataset.notes)


def test_lists_of_every_arrow_kind_read_alike(tmp_path: Path) -> None:
    root = v30(tmp_path / "d")
    before = read(root)[0]
    for file in (root / "data/chunk-000").iterdir():
        plain = pq.read_table(file)
        fixed = plain["action"].combine_chunks().cast(pa.list_(pa.float32(), 2))
        large = plain["observation.state"].combine_chunks().cast(pa.large_list(pa.float64()))
        changed = plain.set_column(plain.column_names.index("action"), "action", fixed)
        pq.write_table(changed.set_column(0, "observation.state", large), file)
    after = read(root)[0]
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a.observations, b.observations)
        assert np.allclose(a.actions, b.actions)


def test_a_part_of_a_dataset_names_the_whole(tmp_path: Path) -> None:
    root = v30(tmp_path / "d")
    with pytest.raises(RobotRLError, match="give the folder that holds its 'meta' and 'data'"):
        detect(root / "data/chunk-000/file-000.parquet")
