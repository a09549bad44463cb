"""Replays whose rows lie in a file draw the same batches as those in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.bench.speed.data import DataBenchConfig, measure, run_part
from robot_rl.bench.speed.data_parts import make_large
from robot_rl.data.dataset import write_dataset
from robot_rl.data.replay import Replay
from robot_rl.data.selection import Selection
from robot_rl.errors import DataError
from tests.data.made import SPEC, make_episode

EPISODES = [make_episode(i, 40 + i, final_observed=i % 3 > 0) for i in range(20)]


def test_batches_from_a_file_equal_those_from_memory(tmp_path: Path) -> None:
    in_memory = Replay.of(SPEC, EPISODES)
    in_file = Replay.of(SPEC, EPISODES, beside=tmp_path, memory_gb=1e-5)  # 10 kB: after the third episode
    assert len(in_memory) == len(in_file) == sum(map(len, EPISODES)) - 7
    one, two = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for _ in range(10):
        for a, b in zip(in_memory.sample(256, one), in_file.sample(256, two), strict=True):
            assert torch.equal(a, b)
    for a, b in zip(in_memory.transitions(), in_file.transitions(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(in_memory.episodes(), in_file.episodes(), strict=True):
        assert np.array_equal(a.observations, b.observations)


def test_nothing_is_left_beside_the_dataset(tmp_path: Path) -> None:
    replay = Replay.of(SPEC, EPISODES, beside=tmp_path, memory_gb=1e-5)
    assert list(tmp_path.iterdir()) == []
    assert len(replay) > 0


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file can be made in .*nowhere.*--memory-gb"):
        Replay.of(SPEC, EPISODES, beside=tmp_path / "nowhere", memory_gb=1e-5)


def test_a_selection_can_be_gone_through_again(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", SPEC, EPISODES[:5], origin="made")
    chosen = Selection(dataset, (3, 1), lambda obs: obs[:, 0])
    for _ in range(2):
        assert [e.source for e in chosen] == ["made:3", "made:1"]
    assert np.array_equal(next(iter(chosen)).rewards, EPISODES[3].observations[1:, 0])
    assert len(chosen) == 2
    assert dataset.successes() == (True,) * 5


def test_the_bench_answers_with_figures(tmp_path: Path) -> None:
    rows = measure(DataBenchConfig(transitions=5000, large_gb=0.02, memory_gb=0.005), tmp_path)["results"]
    assert rows["load into replay"]["transitions"] == rows["doctor"]["transitions"] == 5000
    assert rows["large: load"]["transitions"] == 23_000  # 20 MB in rows of 852 bytes, whole episodes
    assert all(row["transitions_per_s"] > 0 for row in rows.values())


@pytest.mark.slow
def test_five_gigabytes_train_below_one(tmp_path: Path) -> None:
    large = make_large(tmp_path, 5.0)
    for part in ("large: load", "large: sample", "large: train"):
        assert run_part(part, large, 0.25)["peak_mb"] < 1000
