"""Datasets on disk: what goes in comes out, all or nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.dataset import load_dataset, write_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.summary import summarise
from robot_rl.errors import DataError
from tests.data.made import SPEC, make_episode


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 12), st.booleans(), st.sampled_from([True, False, None]), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_episodes_come_back_as_they_were(facts: list[tuple[int, bool, bool | None, bool, bool]]) -> None:
    episodes = [
        make_episode(
            i,
            steps,
            terminated=ended,
            truncated=not ended,
            success=success,
            final_observed=seen,
            timestamps=np.cumsum(np.ones(steps + 1)) if clock else None,
        )
        for i, (steps, ended, success, seen, clock) in enumerate(facts)
    ]
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder) / "d", SPEC, episodes, origin="made", notes=["a note"])
        assert dataset.spec == SPEC
        assert dataset.notes == ("a note",)
        assert dataset.total_steps == sum(map(len, episodes))
        for before, after in zip(episodes, dataset, strict=True):
            for name in ("observations", "actions", "rewards"):
                assert np.array_equal(getattr(before, name), getattr(after, name))
            for name in ("terminated", "truncated", "success", "final_observed", "source"):
                assert getattr(before, name) == getattr(after, name)
            assert (before.timestamps is None) == (after.timestamps is None)


def test_a_failure_midway_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Episode]:
        yield make_episode()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_dataset(tmp_path / "d", SPEC, failing(), origin="made")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told_before_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([30e6, 30e6, 20e6])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(left)))
    episodes = [make_episode(i, 3000) for i in range(64)]
    with pytest.raises(DataError, match=r"has 20\.0 MB left, writing on needs 2\d\.\d MB\. Make room"):
        write_dataset(tmp_path / "out", SPEC, episodes, origin="made")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_nothing_empty_is_written(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", SPEC, [make_episode()], origin="made")
    with pytest.raises(DataError, match="exists already"):
        write_dataset(tmp_path / "d", SPEC, [make_episode()], origin="made")
    with pytest.raises(DataError, match="no episodes"):
        write_dataset(tmp_path / "e", SPEC, [], origin="made")


def test_episodes_of_another_width_are_refused(tmp_path: Path) -> None:
    odd = Episode(observations=np.zeros((3, 5)), actions=np.zeros((2, 2)), rewards=np.zeros(2), source="odd")
    with pytest.raises(DataError, match=r"odd: observations are 5 wide and actions 2, but the spec has 6 and 2"):
        write_dataset(tmp_path / "d", SPEC, [odd], origin="made")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("metadata.json", b"{", "cannot be read as JSON"),
        ("metadata.json", b"[]", "not an object"),
        ("metadata.json", b"{}", "without a spec"),
        ("main_data.hdf5", b"junk", "cannot be read as HDF5"),
    ],
)
def test_damaged_datasets_are_refused(file: str, content: bytes, words: str, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", SPEC, [make_episode()], origin="made")
    (dataset.path / "data" / file).write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(load_dataset(dataset.path))


def test_impossible_episodes_are_refused() -> None:
    with pytest.raises(DataError, match=r"4 observations, 2 actions and 2 rewards"):
        Episode(observations=np.zeros((4, 1)), actions=np.zeros((2, 1)), rewards=np.zeros(2))
    with pytest.raises(DataError, match="both terminated and truncated"):
        make_episode(terminated=True, truncated=True)
    with pytest.raises(DataError, match="without actions"):
        Episode(observations=np.zeros((1, 1)), actions=np.zeros((0, 1)), rewards=np.zeros(0))
    with pytest.raises(ValueError, match="read-only"):
        make_episode().observations[0] = 0


def test_the_summary_counts_right(tmp_path: Path) -> None:
    episodes = [
        make_episode(0, 10, rewards=np.ones(10), terminated=True, truncated=False),
        make_episode(1, 30, rewards=-np.ones(30), success=None, final_observed=False),
        make_episode(2, 20, rewards=np.zeros(20), success=False),
    ]
    found = summarise(write_dataset(tmp_path / "d", SPEC, episodes, origin="made"))
    assert (found.episodes, found.steps, found.duration_s) == (3, 60, 3.0)
    assert (found.length_min, found.length_median, found.length_max) == (10, 20.0, 30)
    assert (found.return_min, found.return_mean, found.return_max) == pytest.approx((-30.0, -20 / 3, 10.0))
    assert (found.successes, found.failures, found.success_unknown) == (1, 1, 1)
    assert (found.terminated, found.truncated, found.final_unobserved) == (1, 2, 1)
    positions = np.concatenate([e.observations[:, :3] for e in episodes])
    assert found.observation[0].max == pytest.approx(positions.max())
    assert found.observation[0].mean == pytest.approx(positions.mean(), rel=1e-4)
