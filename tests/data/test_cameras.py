"""Pictures: references in the dataset, decoded on demand from video, parquet, TFRecord and HDF5."""

import json
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra 'formats' is not installed")
pytest.importorskip("av", reason="the extra 'formats' is not installed")

from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.data.pictures.frames import Frames
from robot_rl.errors import DataError
from tests.data.made import robomimic_file
from tests.data.made_lerobot import FPS, LENGTHS, png, v21, v30, video
from tests.data.made_rlds import episode, rlds

VIDEO = {"dtype": "video", "shape": [3, 48, 64], "names": ["channels", "height", "width"]}


def imported(source: Path, out: Path, *more: str) -> Any:
    assert main(["data", "import", str(source), "--out", str(out), "--json", *more]) == 0
    return load_dataset(out)


def shade(index: int, step: int) -> int:
    return 20 + 40 * index + 2 * step


@pytest.fixture
def videos_v30(tmp_path: Path) -> Path:
    """Four episodes, one after another in one video a pair."""
    first = np.concatenate([[0], np.cumsum(LENGTHS)]).tolist()

    def change(parts: dict[str, Any]) -> None:
        for row in parts["listing"]:
            index = row["episode_index"]
            row["videos/cam/chunk_index"], row["videos/cam/file_index"] = 0, index // 2
            row["videos/cam/from_timestamp"] = (first[index] - first[index // 2 * 2]) / FPS

    root = v30(tmp_path / "d", change, lambda a: a["features"].update(cam=VIDEO))
    for number in (0, 1):
        values = [shade(i, t) for i in (2 * number, 2 * number + 1) for t in range(LENGTHS[i])]
        video(root / f"videos/cam/chunk-000/file-{number:03d}.mp4", values)
    return root


def test_frames_of_a_video_are_those_of_the_step(videos_v30: Path, tmp_path: Path) -> None:
    dataset = imported(videos_v30, tmp_path / "out")
    with Frames() as frames:
        order = [(i, t) for i in range(4) for t in (0, 1, 6, LENGTHS[i] - 1, 3)]  # forward, back, across files
        for index, step in [*order, *reversed(order)]:
            (ref,) = dataset.episode(index).cameras
            picture = frames.frame(ref, step)
            assert picture.shape == (48, 64, 3)
            assert abs(float(picture.mean()) - shade(index, step)) < 3, (index, step)
    assert (ref.shape, ref.fps, ref.store) == ((48, 64, 3), float(FPS), "video")


def test_a_row_has_the_picture_of_its_time_where_rows_are_missing(tmp_path: Path) -> None:
    def skip(episodes: dict[str, Any]) -> None:
        columns: dict[Any, Any] = episodes
        columns[2]["timestamp"] = columns[2]["timestamp"] + 3 / FPS * (np.arange(LENGTHS[2]) >= 5)

    root = v21(tmp_path / "d", skip, lambda a: a["features"].update(cam=VIDEO))
    video(root / "videos/chunk-000/cam/episode_000002.mp4", [shade(0, 2 * t) for t in range(LENGTHS[2] + 3)])
    imported(root, tmp_path / "out")
    out = tmp_path / "x.png"
    for step, picture in ((4, 4), (5, 8), (14, 17)):
        asked = ["--episode", "2", "--step", str(step), "--out", str(out)]
        assert main(["data", "frame", str(tmp_path / "out"), *asked]) == 0
        assert abs(float(iio.imread(out).mean()) - shade(0, 2 * picture)) < 3, step


def test_a_video_shorter_than_the_episode_says_so(videos_v30: Path, tmp_path: Path) -> None:
    video(videos_v30 / "videos/cam/chunk-000/file-001.mp4", [100] * 5)
    dataset = imported(videos_v30, tmp_path / "out")
    with Frames() as frames, pytest.raises(DataError, match=r"no picture of step 10 at 0\.500 s: the nearest frame"):
        frames.frame(dataset.episode(2).cameras[0], 10)
    (videos_v30 / "videos/cam/chunk-000/file-001.mp4").write_bytes(b"not a video")
    with Frames() as frames, pytest.raises(DataError, match="cannot be read as a video"):
        frames.frame(dataset.episode(2).cameras[0], 0)


def test_videos_an_episode_a_file_and_those_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = v21(tmp_path / "d", change_info=lambda a: a["features"].update(cam=VIDEO))
    video(root / "videos/chunk-000/cam/episode_000002.mp4", [shade(0, t) for t in range(LENGTHS[2])])
    dataset = imported(root, tmp_path / "out")
    assert [len(e.cameras) for e in dataset] == [0, 0, 1, 0]
    assert "camera 'cam': the files of 3 of 4 episodes are not there" in dataset.notes
    with Frames() as frames:
        assert abs(float(frames.frame(dataset.episode(2).cameras[0], 14).mean()) - shade(0, 14)) < 3
    capsys.readouterr()
    assert main(["data", "frame", str(tmp_path / "out"), "--out", str(tmp_path / "x.png")]) == 2
    assert "episode 0 has no pictures; episodes with some: 2" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_pictures_inside_parquet(kind: str, tmp_path: Path) -> None:
    def change(parts: dict[str, Any]) -> None:
        for number, file in enumerate(parts["files"]):
            for place, columns in enumerate(file):
                index = 2 * number + place
                pictures = [png(shade(index, t)) for t in range(LENGTHS[index])]
                columns["wrist"] = [{"bytes": p, "path": None} for p in pictures] if kind == "struct" else pictures

    feature = {"dtype": "image", "shape": [6, 8, 3], "names": ["height", "width", "channel"]}
    dataset = imported(v30(tmp_path / "d", change, lambda a: a["features"].update(wrist=feature)), tmp_path / "out")
    with Frames(cached=3) as frames:
        for index, step in [(0, 0), (3, 6), (1, 8), (2, 11), (0, 11)]:
            assert (frames.frame(dataset.episode(index).cameras[0], step) == shade(index, step)).all()
        with pytest.raises(DataError, match="Step -1"):
            frames.frame(dataset.episode(0).cameras[0], -1)


def test_pictures_inside_tfrecord_and_hdf5(tmp_path: Path) -> None:
    dataset = imported(rlds(tmp_path / "r", {"train": [episode(0, 5), episode(1, 4)]}), tmp_path / "a")
    with Frames() as frames:
        assert [int(frames.frame(dataset.episode(1).cameras[0], t).max()) for t in range(4)] == [10, 11, 12, 13]
        with pytest.raises(DataError, match="no picture of step 4"):
            frames.frame(dataset.episode(1).cameras[0], 4)

    def add(file: h5py.File) -> None:
        for i in range(3):
            steps = 5 + i
            file[f"data/demo_{i}/obs/eye"] = np.arange(steps, dtype=np.uint8)[:, None, None, None] * np.ones(
                (1, 4, 5, 3), np.uint8
            )

    dataset = imported(robomimic_file(tmp_path / "x.hdf5", add), tmp_path / "b", "--env", "none")
    (ref,) = dataset.episode(2).cameras
    assert (ref.name, ref.shape, ref.key) == ("eye", (4, 5, 3), "/data/demo_2/obs/eye")
    with Frames() as frames:
        assert (frames.frame(ref, 6) == 6).all()


def test_info_doctor_and_frame_tell_of_the_cameras(
    videos_v30: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(videos_v30, tmp_path / "out")
    capsys.readouterr()
    assert main(["data", "info", str(tmp_path / "out"), "--json"]) == 0
    (camera,) = json.loads(capsys.readouterr().out)["cameras"]
    assert (camera["name"], camera["shape"], camera["episodes"], camera["missing"]) == ("cam", [48, 64, 3], 4, 0)
    out = tmp_path / "x.png"
    assert main(["data", "frame", str(tmp_path / "out"), "--episode", "3", "--step", "2", "--out", str(out)]) == 0
    assert abs(float(iio.imread(out).mean()) - shade(3, 2)) < 3
    for file in (videos_v30 / "videos").glob("**/file-001.mp4"):
        file.unlink()
    capsys.readouterr()
    main(["data", "doctor", str(tmp_path / "out"), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = [f for f in findings if f["check"] == "cameras"]
    assert found["severity"] == "warning"
    assert "2 of 4 episodes' files are gone" in found["what"]
    assert main(["data", "frame", str(tmp_path / "out"), "--episode", "3", "--out", str(out)]) == 2
    assert "which is gone. Put the log back there" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--episode", "9"], "has episodes 0 to 3, not 9"),
        (["--step", "12"], "episode 0 has steps 0 to 11, not 12"),
        (["--camera", "can"], "no camera 'can' in episode 0. Did you mean 'cam'?"),
    ],
)
def test_what_is_not_there_is_named(
    options: list[str], words: str, videos_v30: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(videos_v30, tmp_path / "out")
    assert main(["data", "frame", str(tmp_path / "out"), "--out", str(tmp_path / "x.png"), *options]) == 2
    assert words.partition(". ")[0] in " ".join(capsys.readouterr().err.split())


def test_the_cache_keeps_the_last_pictures_only(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["p"] = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    ref = CameraRef(name="p", shape=(2, 2, 1), fps=0.0, store="hdf5", file=str(tmp_path / "x.hdf5"), key="p")
    with Frames(cached=2) as frames:
        first = frames.frame(ref, 0)
        assert frames.frame(ref, 0) is first
        for step in (1, 2):
            frames.frame(ref, step)
        assert frames.frame(ref, 0) is not first
        with pytest.raises(ValueError, match="read-only"):
            first[0, 0, 0] = 9
