"""LeRobot datasets written by hand, as recorders and the hub's conversion scripts leave them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LENGTHS = (12, 9, 15, 7)
FPS = 20
Change = Callable[[dict[str, Any]], object]


def rows(episode: int, length: int, first: int) -> dict[str, Any]:
    """Columns of an episode; the state counts rows, so that every number can be told by hand."""
    step = np.arange(length)
    return {
        "observation.state": [[100.0 * episode + t, float(t), -1.0] for t in step],
        "action": [[0.1 * t, -2.0 * t] for t in step],
        "timestamp": (step / FPS).astype(np.float32),
        "frame_index": step,
        "episode_index": np.full(length, episode),
        "index": first + step,
        "task_index": np.full(length, episode % 2),
    }


def table(columns: dict[str, Any]) -> pa.Table:
    """As pandas writes it: lists of unstated length, doubles in them."""
    kinds = {"timestamp": pa.float32()}
    return pa.table({k: pa.array(v if isinstance(v, list) else v.tolist(), kinds.get(k)) for k, v in columns.items()})


def info(version: str, **more: Any) -> dict[str, Any]:
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "robot_type": "so100",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:3", "val": "3:4"},
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": ["pan", "lift", "grip"]}},
            "action": {"dtype": "float32", "shape": [2], "names": {"dx": 0, "dy": 1}},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
        },
        "key_of_a_later_version": {"a": 1},
        **more,
    }


def v21(root: Path, change: Change = lambda d: None, change_info: Change = lambda d: None) -> Path:
    """A v2.1 dataset of four episodes; `change` sees {episode: columns} before they are written."""
    meta = root / "meta"
    meta.mkdir(parents=True)
    first = np.concatenate([[0], np.cumsum(LENGTHS)]).tolist()
    episodes: dict[Any, Any] = {i: rows(i, n, first[i]) for i, n in enumerate(LENGTHS)}
    listing: dict[Any, Any] = {
        i: {"episode_index": i, "tasks": ["pick", "place"][i % 2 :][:1], "length": n} for i, n in enumerate(LENGTHS)
    }
    episodes["listing"] = listing
    change(episodes)
    del episodes["listing"]
    for index, columns in episodes.items():
        file = root / f"data/chunk-000/episode_{index:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(columns), file)
    about = info("v2.1", total_chunks=1, total_videos=0)
    change_info(about)
    (meta / "info.json").write_text(json.dumps(about))
    (meta / "episodes.jsonl").write_text("".join(json.dumps(e) + "\n" for e in listing.values()))
    tasks = [{"task_index": 0, "task": "pick"}, {"task_index": 1, "task": "place"}]
    (meta / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    return root


def v30(root: Path, change: Change = lambda d: None, change_info: Change = lambda d: None) -> Path:
    """A v3.0 dataset: two episodes in each of two files; `change` sees the parts before they are written."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    first = np.concatenate([[0], np.cumsum(LENGTHS)]).tolist()
    parts: dict[str, Any] = {
        "files": [
            [rows(0, LENGTHS[0], first[0]), rows(1, LENGTHS[1], first[1])],
            [rows(2, LENGTHS[2], first[2]), rows(3, LENGTHS[3], first[3])],
        ],
        "listing": [
            {
                "episode_index": i,
                "data/chunk_index": 0,
                "data/file_index": i // 2,
                "dataset_from_index": first[i],
                "dataset_to_index": first[i + 1],
                "tasks": ["pick", "place"][i % 2 :][:1],
                "length": n,
                "stats/action/mean": [0.0, 0.0],
                "stats/action/count": [n],
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
            for i, n in enumerate(LENGTHS)
        ],
        "tasks": {"task_index": [0, 1], "__index_level_0__": ["pick", "place"]},
    }
    change(parts)
    for number, episodes in enumerate(parts["files"]):
        whole = pa.concat_tables([table(e) for e in episodes])
        pq.write_table(whole, root / f"data/chunk-000/file-{number:03d}.parquet", row_group_size=10)
    pq.write_table(pa.Table.from_pylist(parts["listing"]), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table(parts["tasks"]), root / "meta/tasks.parquet")
    about = info(
        "v3.0", data_files_size_in_mb=100, data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    )
    change_info(about)
    (root / "meta/info.json").write_text(json.dumps(about))
    (root / "meta/stats.json").write_text("{}")
    return root


def png(value: int) -> bytes:
    """A picture of one colour, 6 high and 8 wide."""
    buffer = io.BytesIO()
    iio.imwrite(buffer, np.full((6, 8, 3), value, np.uint8), extension=".png")
    return buffer.getvalue()


def video(file: Path, values: list[int], fps: int = FPS) -> Path:
    """A video whose frame t is grey of `values[t]`; keyframes are ten frames apart."""
    import av

    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        stream.codec_context.gop_size = 10
        for value in values:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file
