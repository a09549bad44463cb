"""Datasets go out in other projects' formats and come back."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra 'formats' is not installed")

import pyarrow.parquet as pq

from robot_rl.cli import main
from robot_rl.data.dataset import Dataset, load_dataset, write_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.exporters.lerobot import export_lerobot
from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import DataError
from tests.data.made import SPEC, make_episode

FORMATS = ("robomimic", "minari", "lerobot")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Truncated with o_T, terminated, without o_T, without success and times."""
    episodes = [
        make_episode(0, 30),
        make_episode(1, 12, terminated=True, truncated=False, success=False),
        make_episode(2, 25, success=True),
    ]
    return write_dataset(tmp_path / "made", SPEC, episodes, origin="made by a test")


def export(dataset: Dataset, format_name: str, out: Path, *more: str) -> Path:
    assert main(["data", "export", str(dataset.path), "--format", format_name, "--out", str(out), *more]) == 0
    found = out
    if format_name == "minari":
        found = out / "robot-rl/made-v0"
    return found


def back(source: Path, out: Path) -> Dataset:
    assert main(["data", "import", str(source), "--out", str(out)]) == 0
    return load_dataset(out)


@pytest.mark.parametrize("format_name", FORMATS)
def test_round_trips_keep_what_the_format_can_hold(format_name: str, dataset: Dataset, tmp_path: Path) -> None:
    again = back(export(dataset, format_name, tmp_path / "out.hdf5"), tmp_path / "again")
    assert again.spec == dataset.spec
    assert len(again) == len(dataset)
    for before, after in zip(dataset, again, strict=True):
        assert np.array_equal(before.observations[:-1], after.observations[:-1])
        assert np.array_equal(before.actions, after.actions)
        assert np.array_equal(before.rewards, after.rewards)
        assert (before.terminated, before.truncated, before.success) == (
            after.terminated,
            after.truncated,
            after.success,
        )
        if format_name == "lerobot":  # no place for the last observation, nor for times off the grid
            assert after.final_observed == after.terminated
            assert np.allclose(before.timestamps, after.timestamps, atol=1e-5)
        else:
            assert np.array_equal(before.observations, after.observations)
            assert np.array_equal(before.timestamps, after.timestamps)
            assert before.final_observed == after.final_observed


def test_unknown_success_and_final_observation_stay_unknown(tmp_path: Path) -> None:
    episodes = [make_episode(0, 8, success=None, timestamps=None), make_episode(1, 8, success=True)]
    half = make_episode(2, 8)
    episodes.append(make_episode(2, 8, observations=np.vstack([half.observations[:-1]] * 2)[:9], final_observed=False))
    dataset = write_dataset(tmp_path / "made", SPEC, episodes, origin="made")
    again = back(export(dataset, "robomimic", tmp_path / "x.hdf5"), tmp_path / "a")
    assert [(e.success, e.final_observed, e.timestamps is None) for e in again] == [
        (None, True, True),
        (True, True, False),
        (True, False, False),
    ]
    assert {e.success for e in back(export(dataset, "lerobot", tmp_path / "x"), tmp_path / "b")} == {None}


def test_an_environment_that_nobody_has_leaves_the_labels_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = replace(SPEC, env_id="NobodyHasThis-v0")
    dataset = write_dataset(tmp_path / "made", spec, [make_episode(0, 8, success=True)], origin="made")
    source = export(dataset, "lerobot", tmp_path / "x")
    again = back(source, tmp_path / "again")
    assert again.successes() == (True,)
    assert any("success is the log's own: 'NobodyHasThis-v0' cannot be made here" in note for note in again.notes)
    asked = ["data", "import", str(source), "--success", "replay", "--out", str(tmp_path / "b")]
    assert main(asked) == 2
    assert "No environment 'NobodyHasThis-v0'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("format_name", ["robomimic", "lerobot"])
def test_what_is_left_out_is_said(format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrist = CameraRef(name="wrist", shape=(2, 2, 3), fps=0.0, store="hdf5", file="x.hdf5", key="wrist")
    episodes = [make_episode(0, 8), make_episode(1, 8, cameras=(wrist,))]
    dataset = write_dataset(tmp_path / "made", SPEC, episodes, origin="made", notes=["clocks were mended", "lag"])
    export(dataset, format_name, tmp_path / "out", "--json")
    said = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "pictures are not copied" in said
    assert f"what its import noted (2) is not written; `data info {dataset.path}` shows it" in said


def test_a_rate_that_is_none_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--fps is nan Hz; it must be above 0, and finite"):
        export_lerobot(dataset, tmp_path / "out", "reach", math.nan)


def test_action_bounds_that_are_none_are_taken_from_the_log(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = export(dataset, "minari", tmp_path / "x")
    file = found / "data" / "metadata.json"
    described = json.loads(file.read_text())
    described.pop("robot_rl")
    described["env_spec"] = json.dumps({"id": "NobodyHasThis-v0"})
    space = json.loads(described["action_space"])
    described["action_space"] = json.dumps(
        space | {"low": [-math.inf] * SPEC.action_dim, "high": [math.inf] * SPEC.action_dim}
    )
    file.write_text(json.dumps(described))
    capsys.readouterr()
    assert main(["data", "import", str(found), "--out", str(tmp_path / "back"), "--json"]) == 0
    said = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "'NobodyHasThis-v0' cannot be made here" in said
    assert "the log states no action bounds" in said
    spec = load_dataset(tmp_path / "back").spec
    assert np.isfinite(spec.action_low).all()
    assert np.isfinite(spec.action_high).all()


def test_minari_opens_what_we_export(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export(dataset, "minari", out)
    assert (
        main(
            [
                "data",
                "export",
                str(dataset.path),
                "--format",
                "minari",
                "--out",
                str(tmp_path / "b"),
                "--id",
                "door/human-v2",
            ]
        )
        == 0
    )
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(out))
    found = minari.load_dataset("robot-rl/made-v0")
    assert (found.id, found.total_episodes, found.total_steps) == ("robot-rl/made-v0", 3, 67)
    for before, after in zip(dataset, found.iterate_episodes(), strict=True):
        assert np.array_equal(before.observations, after.observations)
        assert np.array_equal(before.actions, after.actions)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "b"))
    assert minari.load_dataset("door/human-v2").total_steps == 67
    assert "robot-rl/made-v0" not in minari.list_local_datasets()


def test_robomimics_fields_are_as_documented(dataset: Dataset, tmp_path: Path) -> None:
    export(dataset, "robomimic", tmp_path / "x.hdf5")
    with h5py.File(tmp_path / "x.hdf5") as file:
        data: Any = file["data"]
        assert data.attrs["total"] == 67
        assert {"env_name", "type", "env_kwargs"} == set(json.loads(data.attrs["env_args"]))
        assert list(data) == ["demo_0", "demo_1", "demo_2"]
        demo = data["demo_1"]
        assert demo.attrs["num_samples"] == 12
        assert set(demo["obs"]) == set(demo["next_obs"]) == {"joint_pos", "joint_vel"}
        assert demo["dones"][()].tolist() == [0] * 11 + [1]
        assert np.array_equal(demo["obs/joint_vel"][1:], demo["next_obs/joint_vel"][:-1])
        assert demo["actions"].shape == (12, 2)


def test_lerobots_layout_field_by_field(dataset: Dataset, tmp_path: Path) -> None:
    root = export(dataset, "lerobot", tmp_path / "x", "--task", "lift the cube")
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 20, 3, 67)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["targets/a", "targets/b"]}
    rows = pq.read_table(root / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(rows.column_names) == set(info["features"])
    kinds = {f.name: str(f.type) for f in rows.schema}
    assert kinds["timestamp"] == kinds["next.reward"] == "float"
    assert {kinds[k] for k in ("frame_index", "episode_index", "index", "task_index")} == {"int64"}
    assert rows["index"].to_pylist() == list(range(67))
    assert rows["frame_index"].to_pylist() == [*range(30), *range(12), *range(25)]
    assert np.allclose(rows["timestamp"].to_numpy(), np.array(rows["frame_index"].to_pylist()) / 20)
    assert [i for i, done in enumerate(rows["next.done"].to_pylist()) if done] == [29, 41, 66]
    listing = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["episode_index"], r["length"], r["tasks"]) for r in listing] == [
        (0, 30, ["lift the cube"]),
        (1, 12, ["lift the cube"]),
        (2, 25, ["lift the cube"]),
    ]
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in listing] == [(0, 30), (30, 42), (42, 67)]
    assert {r["data/file_index"] for r in listing} == {r["data/chunk_index"] for r in listing} == {0}
    stats = json.loads((root / "meta/stats.json").read_text())
    actions = np.array(rows["action"].to_pylist())
    for name, expected in (("mean", actions.mean(0)), ("std", actions.std(0)), ("min", actions.min(0))):
        assert np.allclose(stats["action"][name], expected, atol=1e-6), name
    assert stats["action"]["count"] == [67]
    first = actions[:30]
    assert np.allclose(listing[0]["stats/action/q50"], np.quantile(first, 0.5, axis=0), atol=1e-6)
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "lift the cube"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_data_files_roll_over_and_the_listing_follows(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robot_rl.data.exporters.lerobot.FILE_MB", 0.002)
    root = export(dataset, "lerobot", tmp_path / "x")
    assert len(list((root / "data/chunk-000").iterdir())) == 3
    assert [len(e) for e in back(root, tmp_path / "again")] == [30, 12, 25]


def test_what_cannot_be_exported_is_refused(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = type(SPEC)(SPEC.observation, SPEC.action)  # of unknown rate
    still = write_dataset(tmp_path / "still", spec, [make_episode()], origin="made")
    words = ["data", "export", str(still.path), "--format", "lerobot", "--out", str(tmp_path / "x")]
    assert main(words) == 2
    assert "does not know its rate, which LeRobot needs. Give it with --fps" in " ".join(
        capsys.readouterr().err.split()
    )
    assert main([*words, "--fps", "12.5"]) == 0
    assert json.loads((tmp_path / "x/meta/info.json").read_text())["fps"] == 12.5
    assert main(words) == 2
    assert (
        main(["data", "export", str(dataset.path), "--format", "minari", "--out", str(tmp_path / "y"), "--id", "x"])
        == 2
    )
    assert "'x' is no Minari id" in " ".join(capsys.readouterr().err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "still", "x"]


@pytest.mark.parametrize("format_name", ["robomimic", "lerobot"])
def test_labels_that_the_log_has_are_not_replaced_by_labels_from_observations(format_name: str, tmp_path: Path) -> None:
    pytest.importorskip("gymnasium_robotics", reason="the extra 'adroit' is not installed")
    env = make_env("AdroitHandPen-v1")
    spec, rng = env_spec(env), np.random.default_rng(0)
    first, _ = env.reset(seed=0)
    env.close()
    labelled = Episode(
        observations=np.repeat(first[None], 4, 0),
        actions=rng.uniform(-1, 1, (3, spec.action_dim)),
        rewards=np.zeros(3),
        success=True,  # by a person; the observations don't show it
    )
    dataset = write_dataset(tmp_path / "made", spec, [labelled], origin="made by a test")
    again = back(export(dataset, format_name, tmp_path / "out.hdf5"), tmp_path / "again")
    assert again.successes() == (True,)
    assert again.notes[-1] == "success of 1 episodes is the log's own label"


def test_naming_the_environment_of_our_own_minari_folder_loses_nothing(tmp_path: Path) -> None:
    half = make_episode(2, 8)
    repeated = np.vstack([half.observations[:-1], half.observations[-2:-1]])
    episodes = [make_episode(0, 8, success=False), make_episode(2, 8, observations=repeated, final_observed=False)]
    dataset = write_dataset(tmp_path / "made", SPEC, episodes, origin="made")
    out = export(dataset, "minari", tmp_path / "minari")
    assert main(["data", "import", str(out), "--env", "none", "--out", str(tmp_path / "again")]) == 0
    found = load_dataset(tmp_path / "again")
    assert [(e.success, e.final_observed) for e in found] == [(False, True), (True, False)]
    assert all(np.array_equal(a.timestamps, b.timestamps) for a, b in zip(dataset, found, strict=True))


def test_times_that_are_lost_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = np.arange(9) / 20.0
    gap = times + np.where(np.arange(9) > 4, 0.5, 0.0)
    for name, stamps, said in (("even", times + 7.0, False), ("gap", gap, True), ("none", None, False)):
        dataset = write_dataset(tmp_path / name, SPEC, [make_episode(0, 8, timestamps=stamps)], origin="made")
        export(dataset, "lerobot", tmp_path / f"{name}-out")
        assert ("those measured, with their gaps, are lost" in " ".join(capsys.readouterr().out.split())) == said
