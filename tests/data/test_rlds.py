"""RLDS TFRecord without TensorFlow."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("google_crc32c", reason="the extra 'formats' is not installed")

from robot_rl.cli import main
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import detect, open_log
from robot_rl.data.formats.rlds.reader import read_rlds
from robot_rl.data.formats.rlds.tf_example import parse_example
from robot_rl.data.formats.rlds.tfrecord import masked_crc, records
from robot_rl.errors import DataError
from tests.data.made import SHARED
from tests.data.made_rlds import FEATURES, STEP, episode, example, framed, rlds, tensor, tree

TWO = {"train": [episode(0, 5), episode(1, 4)], "val": [episode(2, 6)]}


def read(folder: Path, **options: Any) -> tuple[list, list[str], Any]:
    log = read_rlds(folder, ReadOptions(**options))
    return list(log.episodes), list(log.notes), log.spec


def test_the_checksum_is_tfrecords() -> None:
    """CRC32C of "123456789" is E3069283; masked: rotated right by 15, plus a282ead8."""
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF
    assert masked_crc(b"123456789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.booleans())
def test_integers_survive_the_encoding(values: list[int], packed: bool) -> None:
    found = parse_example(example({"x": np.array(values, np.int64)}, packed), "here")["x"]
    assert list(found) == values


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20), st.booleans())
def test_floats_survive_the_encoding(values: list[float], packed: bool) -> None:
    found = parse_example(example({"x": np.array(values, np.float32)}, packed), "here")["x"]
    assert list(found) == values


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_episodes_come_with_their_steps(described: bool, packed: bool, tmp_path: Path) -> None:
    folder = rlds(tmp_path / "d", TWO, described, packed)
    assert detect(folder) == "rlds"
    episodes, notes, spec = read(folder)
    assert [len(e) for e in episodes] == [5, 4, 6]
    assert [(e.name, e.size) for e in (*spec.observation, *spec.action)] == [("observation/state", 2), ("action", 2)]
    assert episodes[2].observations[:, 0].tolist() == [20, 21, 22, 23, 24, 25, 25]
    assert episodes[1].actions[:, 1].tolist() == [-1, -2, -3, -4]
    assert [e.return_ for e in episodes] == [1, 1, 1]
    assert [e.terminated for e in episodes] == [True, False, False]
    assert [e.final_observed for e in episodes] == [True, False, False]
    assert (spec.action_low.tolist(), spec.action_high.tolist()) == ([1.0, -6.0], [6.0, -1.0])
    said = " ".join(notes)
    assert "splits read together: train (2), val (1)" in said
    assert "open the drawer" in said
    assert "no features.json" in said or described


def test_splits_and_single_files(tmp_path: Path) -> None:
    folder = rlds(tmp_path / "made" / "1.0.0", TWO)
    assert [len(e) for e in read(folder, filter="val")[0]] == [6]
    assert open_log(tmp_path / "made", "auto", ReadOptions()).count == 3  # the only version folder
    assert open_log(folder / "made-train.tfrecord-00000-of-00001", "auto", ReadOptions()).count == 2
    with pytest.raises(DataError, match="no split 'test'; there are: train, val"):
        read(folder, filter="test")


def test_a_single_file_of_another_split_is_refused(tmp_path: Path) -> None:
    file = rlds(tmp_path / "made", TWO) / "made-val.tfrecord-00000-of-00001"
    assert len(read(file, filter="val")[0]) == 1
    with pytest.raises(DataError, match=r"is of the split 'val', not of 'train'. Give the folder"):
        read(file, filter="train")
    other = file.rename(tmp_path / "made" / "some.tfrecord")
    with pytest.raises(DataError, match=r"is of no split that its name tells, not of 'train'"):
        read(other, filter="train")


def test_a_last_step_of_zeros_in_every_episode_is_the_final_observation(tmp_path: Path) -> None:
    folder = rlds(tmp_path / "a", {"train": [episode(1, 5, placeholder=True), episode(2, 4, placeholder=True)]})
    episodes, notes, _ = read(folder)
    assert [len(e) for e in episodes] == [4, 3]
    assert all(e.final_observed for e in episodes)
    assert episodes[0].observations[-1].tolist() == [14, 4]
    assert any("it is the final observation, not an action" in n for n in notes)
    mixed = rlds(tmp_path / "b", {"train": [episode(1, 5, placeholder=True), episode(2, 4)]})
    assert [len(e) for e in read(mixed)[0]] == [5, 4]


def test_actions_in_parts_and_encoded_tensors(tmp_path: Path) -> None:
    steps = 3
    parts = {
        "steps/action/arm": np.arange(6, dtype=np.float32),
        "steps/action/hand": np.full(steps, 7, np.int64),
        "steps/observation/force": [zlib.compress(struct.pack("<d", t / 2)) for t in range(steps)],
    }
    made = {k: v for k, v in episode(1, steps).items() if k != "steps/action"} | parts
    folder = rlds(tmp_path / "d", {"train": [made]})
    step = {k: v for k, v in STEP.items() if k != "action"}
    step["action"] = tree({"arm": tensor("float32", 2), "hand": tensor("int32")})
    step["observation"] = tree({"force": tensor("float64", encoding="zlib"), "state": tensor("float32", 2)})
    described = tree({"steps": {"sequence": {"feature": tree(step), "length": "-1"}}})
    (folder / "features.json").write_text(json.dumps(described))
    episodes, _, spec = read(folder)
    assert spec.action_names == ["action/arm/0", "action/arm/1", "action/hand"]
    assert episodes[0].actions.tolist() == [[0, 1, 7], [2, 3, 7], [4, 5, 7]]
    assert episodes[0].observations[:3, 0].tolist() == [0.0, 0.5, 1.0]
    assert read(folder, obs_keys=("state",))[2].obs_dim == 2
    with pytest.raises(DataError, match=r"no numeric feature observation/colour; there are: .*observation/force"):
        read(folder, obs_keys=("colour",))


def test_contradictions_are_refused_or_read_by_the_records(tmp_path: Path) -> None:
    cases = [
        ({"splits": [{"name": "train", "shardLengths": ["3"]}]}, "gives made-train.tfrecord-00000-of-00001 3 episodes"),
        ({"splits": [{"name": "test", "shardLengths": ["3"]}]}, "lists the split 'test', which has no file"),
    ]
    for number, (info, words) in enumerate(cases):
        folder = rlds(tmp_path / str(number), {"train": TWO["train"]})
        (folder / "dataset_info.json").write_text(json.dumps(info))
        with pytest.raises(DataError, match=words):
            read(folder)
        episodes, notes, _ = read(folder, trust_rows=True)
        assert len(episodes) == 2
        assert any(words in n for n in notes)
    folder = rlds(tmp_path / "shards", {"train": TWO["train"]})
    (folder / "made-train.tfrecord-00000-of-00001").rename(folder / "made-train.tfrecord-00000-of-00002")
    with pytest.raises(DataError, match=r"split 'train' has 1 of 2 files, the first one missing is number 1"):
        read(folder)
    wrong = episode(0, 5) | {"steps/is_last": np.array([0, 0, 1, 0, 0])}
    with pytest.raises(DataError, match="marks step 2 of 5 as is_last"):
        read(rlds(tmp_path / "last", {"train": [wrong]}))


def test_cut_and_damaged_files_are_refused_by_name_and_place(tmp_path: Path) -> None:
    folder = rlds(tmp_path / "d", {"train": [episode(0, 5), episode(1, 4)]})
    file = folder / "made-train.tfrecord-00000-of-00001"
    whole = file.read_bytes()
    (second,) = [at for at, _ in records(file)][1:]
    for content, words in [
        (whole[:-3], f"record 1 at byte {second} has"),
        (whole[: second + 5], f"record 1 at byte {second} is cut inside its header"),
        (whole[: second + 30] + b"\xff" + whole[second + 31 :], "its checksum is wrong"),
        (b"\x1f\x8b" + whole, "the checksum of its length is wrong"),
        (framed(b"hello"), "is no tf.train.Example"),
        (framed(example({"steps/action": np.zeros(4, np.float32)})), "lacks 'steps/"),
        (framed(example(episode(0, 5) | {"steps/action": np.zeros(9, np.float32)})), "numbers"),
        (
            framed(example(episode(0, 5) | {"steps/action": np.full(10, np.nan, np.float32)})),
            "NaN or infinity in step 0",
        ),
        (b"", "holds no episodes"),
    ]:
        file.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read(folder, trust_rows=True)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    folder = rlds(tmp_path / "a", {"train": [episode(0, 5)]})
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    with pytest.raises(DataError, match="its files are 'array_record'"):
        read(folder)
    (folder / "dataset_info.json").unlink()
    (folder / "features.json").write_text(json.dumps(tree({"image": tensor("float32", 2)})))
    with pytest.raises(DataError, match="describes no 'steps'"):
        read(folder)
    pictures = json.loads(json.dumps(FEATURES))
    del pictures["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]["observation"][
        "featuresDict"
    ]["features"]["state"]
    (folder / "features.json").write_text(json.dumps(pictures))
    with pytest.raises(DataError, match="no observation of numbers among its step features"):
        read(folder)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real logs at ../shared/data")
def test_counts_of_the_bridge_episodes_equal_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = SHARED / "rlds_bridge"
    about = json.loads((root / "dataset_info.json").read_text())
    stated = {s["name"]: sum(map(int, s["shardLengths"])) for s in about["splits"]}
    assert main(["data", "import", str(root), "--out", str(tmp_path / "d"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["episodes"], said["steps"]) == (sum(stated.values()), 500) == (50, 500)
