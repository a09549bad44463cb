"""Damaged logs: whatever byte or field is wrong, an error in words or the right counts, never a bare traceback."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra 'formats' is not installed")
pytest.importorskip("google_crc32c", reason="the extra 'formats' is not installed")

from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import open_log
from robot_rl.data.formats.rlds.tf_example import parse_example
from robot_rl.errors import DataError, RobotRLError
from tests.data.made import d4rl_file, robomimic_file
from tests.data.made_lerobot import v21, v30
from tests.data.made_rlds import episode, example, rlds
from tests.data.test_isaac_lab import isaac_file
from tests.data.test_npz import rollouts

MAKERS: dict[str, Callable[[Path], Path]] = {
    "lerobot v2.1": v21,
    "lerobot v3.0": v30,
    "rlds": lambda p: rlds(p, {"train": [episode(0, 5), episode(1, 4)]}),
    "rlds undescribed": lambda p: rlds(p, {"train": [episode(0, 5)]}, described=False),
    "robomimic": lambda p: robomimic_file(p.with_suffix(".hdf5")),
    "isaac lab": lambda p: isaac_file(p.with_suffix(".hdf5")),
    "isaac lab states": lambda p: isaac_file(p.with_suffix(".hdf5"), obs="none"),
    "d4rl": lambda p: d4rl_file(p.with_suffix(".hdf5")),
    "npz": lambda p: rollouts(p.with_suffix(".npz")),
}
NEW = {k: m for k, m in MAKERS.items() if k not in ("robomimic", "d4rl")}
ROUNDS = 24


def files(log: Path) -> list[Path]:
    return [log] if log.is_file() else sorted(f for f in log.glob("**/*") if f.is_file())


def outcome(log: Path, *, trust_rows: bool) -> tuple[int, ...] | None:
    """Lengths of the episodes; None where the log was refused in words."""
    try:
        found = open_log(log, "auto", ReadOptions(trust_rows=trust_rows, env="none"))
        lengths = tuple(len(e) for e in found.episodes)
    except RobotRLError:
        return None
    assert len(lengths) == found.count
    return lengths


def damage(data: bytes, rng: random.Random) -> bytes:
    kind = rng.choice(("cut", "flip", "flip", "zero", "insert", "empty"))
    if not data or kind == "empty":
        return b"" if rng.random() < 0.3 else rng.randbytes(40)
    at = rng.randrange(len(data))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind == "zero":
        size = rng.randrange(1, 40)
        return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


@pytest.mark.parametrize("name", list(NEW))
def test_damaged_bytes_never_end_in_a_traceback(name: str, tmp_path: Path) -> None:
    """HDF5 and parquet without page checksums can't tell a changed number; but counts stay right."""
    rng = random.Random(name)
    log = NEW[name](tmp_path / "log")
    whole = outcome(log, trust_rows=False)
    assert whole
    for file in files(log):
        before = file.read_bytes()
        for _ in range(max(4, ROUNDS // len(files(log)))):
            file.write_bytes(damage(before, rng))
            lengths = outcome(log, trust_rows=False)
            if file.suffix in (".parquet", ".tfrecord-00000-of-00001") and lengths is not None:
                assert sum(lengths) == sum(whole), file
        file.write_bytes(before)
    assert outcome(log, trust_rows=False) == whole


@pytest.mark.parametrize("name", list(NEW))
def test_missing_files_never_end_in_a_traceback(name: str, tmp_path: Path) -> None:
    log = NEW[name](tmp_path / "log")
    whole = outcome(log, trust_rows=False)
    for number, file in enumerate(files(log) if log.is_dir() else []):
        shutil.move(file, tmp_path / "aside")
        lengths = outcome(log, trust_rows=False)
        assert lengths in (None, whole), (file, number)
        shutil.move(tmp_path / "aside", file)


WORTHLESS = (None, "text", -1, 1e300, [], {}, [1], True, "NaN", 0, 2.5)


def leaves(tree: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    if path:
        yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from leaves(value, (*path, key))


@pytest.mark.parametrize("trust_rows", [False, True])
@pytest.mark.parametrize("name", ["lerobot v2.1", "lerobot v3.0", "rlds"])
def test_wrong_fields_of_the_metadata_never_end_in_a_traceback(name: str, trust_rows: bool, tmp_path: Path) -> None:
    log = MAKERS[name](tmp_path / "log")
    whole = outcome(log, trust_rows=False)
    rng = random.Random(name)
    for file in files(log):
        if file.suffix not in (".json", ".jsonl"):
            continue
        text = file.read_text()
        lines = text.splitlines() if file.suffix == ".jsonl" else [text]
        for path in leaves(json.loads(lines[0])):
            for value in rng.sample(WORTHLESS, 1):
                tree = json.loads(lines[0])
                node = tree
                for key in path[:-1]:
                    node = node[key]
                if rng.random() < 0.2 and isinstance(node, dict):
                    del node[path[-1]]
                else:
                    node[path[-1]] = value
                file.write_text("\n".join([json.dumps(tree), *lines[1:]]))
                lengths = outcome(log, trust_rows=trust_rows)
                assert lengths is None or sum(lengths) == sum(whole), (path, value)
        file.write_text(text)


@pytest.mark.parametrize("name", ["robomimic", "isaac lab", "isaac lab states", "d4rl"])
def test_wrong_arrays_and_attributes_of_hdf5_never_end_in_a_traceback(name: str, tmp_path: Path) -> None:
    log = MAKERS[name](tmp_path / "log")
    before = log.read_bytes()
    rng = random.Random(name)
    with h5py.File(log) as file:
        keys: list[str] = []
        file.visit(keys.append)
        attrs = [(k, a) for k in keys for a in file[k].attrs]
    values = [
        np.zeros(3),
        np.zeros((2, 2)),
        np.zeros((0, 4)),
        b"text",
        np.zeros((5, 2), complex),
        np.array([b"a"] * 5),
        1.0,
    ]
    for key in keys:
        for value in rng.sample(values, 1):
            log.write_bytes(before)
            with h5py.File(log, "a") as file:
                del file[key]
                if rng.random() < 0.8:
                    file[key] = value
            outcome(log, trust_rows=False)
    for key, attr in attrs:
        for value in rng.sample(("text", np.zeros(3), -1, "{}", '{"env_name": []}', "[]"), 2):
            log.write_bytes(before)
            with h5py.File(log, "a") as file:
                file[key].attrs[attr] = value
            outcome(log, trust_rows=True)


def test_damaged_examples_are_refused_or_whole() -> None:
    """Behind a valid checksum: the parser alone."""
    rng = random.Random(0)
    whole = example(episode(0, 3))
    refused = 0
    for _ in range(1500):
        try:
            parse_example(damage(whole, rng), "here")
        except DataError:
            refused += 1
    assert 100 < refused < 1500
