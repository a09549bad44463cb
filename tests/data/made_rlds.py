"""RLDS datasets written by hand: TFRecord framing and tf.train.Example, byte by byte."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.formats.rlds.tfrecord import masked_crc
from tests.data.made_lerobot import png


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values: Any, packed: bool = True) -> bytes:
    """A tf.train.Feature: bytes, floats or integers by the type of `values`."""
    if isinstance(values, list):
        return message(1, b"".join(message(1, v) for v in values))
    if values.dtype.kind == "f":
        if packed:
            return message(2, message(1, values.astype("<f4").tobytes()))
        return message(2, b"".join(b"\x0d" + struct.pack("<f", v) for v in values))
    if packed:
        return message(3, message(1, b"".join(varint(int(v)) for v in values)))
    return message(3, b"".join(b"\x08" + varint(int(v)) for v in values))


def example(features: dict[str, Any], packed: bool = True) -> bytes:
    entries = (message(1, message(1, k.encode()) + message(2, feature(v, packed))) for k, v in features.items())
    return message(1, b"".join(entries))


def framed(record: bytes) -> bytes:
    head = struct.pack("<Q", len(record))
    return head + struct.pack("<I", masked_crc(head)) + record + struct.pack("<I", masked_crc(record))


def episode(number: int, steps: int, placeholder: bool = False, **more: Any) -> dict[str, Any]:
    """State [10 number + t, t], action [t, -t]; the last step is zero where it is a placeholder."""
    t = np.arange(steps, dtype=np.float32)
    last = np.arange(steps) == steps - 1
    action = np.stack([t + 1, -t - 1], 1) * (~last[:, None] if placeholder else 1)
    return {
        "steps/observation/state": np.stack([10 * number + t, t], 1).ravel(),
        "steps/observation/image": [png(10 * number + i) for i in range(steps)],
        "steps/action": action.ravel().astype(np.float32),
        "steps/reward": (last & (not placeholder)).astype(np.float32),
        "steps/is_first": (t == 0).astype(np.int64),
        "steps/is_last": last.astype(np.int64),
        "steps/is_terminal": (last & (number == 0)).astype(np.int64),
        "steps/language_instruction": [b"open the drawer"] * steps,
        **more,
    }


def rlds(folder: Path, splits: dict[str, list[dict[str, Any]]], described: bool = True, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for split, episodes in splits.items():
        content = b"".join(framed(example(e, packed)) for e in episodes)
        (folder / f"made-{split}.tfrecord-00000-of-00001").write_bytes(content)
    if described:
        (folder / "features.json").write_text(json.dumps(FEATURES))
        sizes = [{"name": s, "shardLengths": [str(len(e))]} for s, e in splits.items()]
        (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": "tfrecord", "splits": sizes}))
    return folder


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict[str, Any]:
    return {"tensor": {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype, "encoding": encoding}}


def tree(features: dict[str, Any]) -> dict[str, Any]:
    return {"featuresDict": {"features": features}}


PICTURE = {"image": {"shape": {"dimensions": ["6", "8", "3"]}, "dtype": "uint8", "encodingFormat": "png"}}
STEP = {
    "observation": tree({"state": tensor("float32", 2), "image": PICTURE}),
    "action": tensor("float32", 2),
    "reward": tensor("float32"),
    **{k: tensor("bool") for k in ("is_first", "is_last", "is_terminal")},
    "language_instruction": {"text": {}},
}
FEATURES = tree({"steps": {"sequence": {"feature": tree(STEP), "length": "-1"}}})
