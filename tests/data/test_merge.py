"""Several datasets as one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot_rl.commands.data import main
from robot_rl.data.dataset import load_dataset, write_dataset
from robot_rl.errors import ConfigError, DataError, SpecMismatch
from tests.data.made import SPEC, make_episode


def made(folder: Path, first: int, *, count: int = 2, env_id: str = SPEC.env_id) -> Path:
    episodes = [make_episode(first + i, 5 + i, success=i == 0) for i in range(count)]
    write_dataset(folder, replace(SPEC, env_id=env_id), episodes, origin=folder.name, notes=[f"note of {folder.name}"])
    return folder


def test_all_episodes_are_there_in_order_with_where_they_came_from(tmp_path: Path) -> None:
    one, two = made(tmp_path / "monday", 0), made(tmp_path / "tuesday", 10)
    assert main(["merge", str(one), str(two), "--out", str(tmp_path / "both")]) == 0
    both, parts = load_dataset(tmp_path / "both"), [*load_dataset(one), *load_dataset(two)]
    assert both.spec == SPEC
    assert both.notes == ("monday: note of monday", "tuesday: note of tuesday")
    assert both.successes() == (True, False, True, False)
    for part, episode in zip(parts, both, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(part, name), getattr(episode, name))
    assert [e.source.split(": ")[0] for e in both] == ["monday", "monday", "tuesday", "tuesday"]


def test_of_several_environments_none_is_kept(tmp_path: Path) -> None:
    one, two = made(tmp_path / "a", 0, env_id="A-v1"), made(tmp_path / "b", 10, env_id="B-v1")
    main(["merge", str(one), str(two), "--out", str(tmp_path / "both")])
    both = load_dataset(tmp_path / "both")
    assert both.spec.env_id == ""
    assert "several environments (A-v1, B-v1)" in both.notes[-1]


def test_repeated_episodes_are_counted(tmp_path: Path) -> None:
    one, two = made(tmp_path / "a", 0), made(tmp_path / "again", 0, count=3)
    main(["merge", str(one), str(two), "--out", str(tmp_path / "both")])
    assert load_dataset(tmp_path / "both").notes[-1] == "2 of 5 episodes repeat an earlier one"


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    one = made(tmp_path / "a", 0)
    spec = replace(SPEC, rate_hz=SPEC.rate_hz + 1)
    write_dataset(tmp_path / "faster", spec, [make_episode()], origin="made")
    with pytest.raises(SpecMismatch, match="rate"):
        main(["merge", str(one), str(tmp_path / "faster"), "--out", str(tmp_path / "both")])
    with pytest.raises(ConfigError, match="two or more"):
        main(["merge", str(one), str(one), "--out", str(tmp_path / "both")])
    with pytest.raises(ConfigError, match="two or more"):
        main(["merge", str(one), "--out", str(tmp_path / "both")])
    assert not (tmp_path / "both").exists()
    with pytest.raises(DataError, match="exists already"):
        main(["merge", str(one), str(tmp_path / "faster"), "--out", str(one)])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_set_that_does_not_know_its_rate_takes_the_others_in_either_order(
    order: tuple[int, int], tmp_path: Path
) -> None:
    known = made(tmp_path / "known", 0)
    silent = tmp_path / "silent"
    write_dataset(silent, replace(SPEC, rate_hz=0.0, control="unspecified"), [make_episode(9)], origin="made")
    chosen = [str((known, silent)[i]) for i in order]
    main(["merge", *chosen, "--out", str(tmp_path / "both")])
    both = load_dataset(tmp_path / "both")
    assert (both.spec.rate_hz, both.spec.control) == (SPEC.rate_hz, SPEC.control)
    assert f"silent states no rate: taken to be the others', {SPEC.rate_hz:g} Hz" in both.notes
    assert f"silent states no control mode: taken to be the others', {SPEC.control}" in both.notes


def test_two_that_disagree_are_refused_behind_one_that_fits_both(tmp_path: Path) -> None:
    rates = {"silent": 0.0, "slow": 10.0, "fast": 20.0}
    for name, rate_hz in rates.items():
        write_dataset(tmp_path / name, replace(SPEC, rate_hz=rate_hz), [make_episode()], origin="made")
    with pytest.raises(SpecMismatch, match=r"slow runs at 10 Hz, .*fast at 20 Hz"):
        main(["merge", *(str(tmp_path / name) for name in rates), "--out", str(tmp_path / "all")])
    assert not (tmp_path / "all").exists()
