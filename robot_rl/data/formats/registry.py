"""Which reader a log needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py

from robot_rl.data.bags.recording import recordings_in
from robot_rl.data.formats.bag import read_bag
from robot_rl.data.formats.d4rl import read_d4rl
from robot_rl.data.formats.hdf5 import group, listing, numbered_groups, opened
from robot_rl.data.formats.lerobot.reader import read_lerobot
from robot_rl.data.formats.log import FormatName, ImportedLog, ReadOptions
from robot_rl.data.formats.mcap_session import read_session
from robot_rl.data.formats.minari_folder import read_minari
from robot_rl.data.formats.npz_rollouts import read_npz
from robot_rl.data.formats.rlds.files import is_rlds
from robot_rl.data.formats.rlds.reader import read_rlds
from robot_rl.data.formats.robomimic.reader import read_robomimic
from robot_rl.data.formats.robosuite_raw import read_robosuite
from robot_rl.data.session import is_session
from robot_rl.errors import ConfigError, DataError

READERS: dict[str, Callable[[Path, ReadOptions], ImportedLog]] = {
    "robomimic": read_robomimic,
    "robosuite": read_robosuite,
    "d4rl": read_d4rl,
    "minari": read_minari,
    "mcap": read_session,
    "lerobot": read_lerobot,
    "rlds": read_rlds,
    "npz": read_npz,
    "bag": read_bag,
}
USES: dict[str, frozenset[str]] = {
    "robomimic": frozenset({"env", "obs_keys", "filter"}),
    "robosuite": frozenset({"env", "replay"}),
    "d4rl": frozenset({"env", "reward_key"}),
    "minari": frozenset({"env"}),
    "mcap": frozenset({"env"}),
    "lerobot": frozenset({"obs_keys", "filter"}),
    "rlds": frozenset({"obs_keys", "filter"}),
    "npz": frozenset({"env"}),
    "bag": frozenset({"topics"}),
}
"""Which of the options that choose something each reader heeds."""


def open_log(path: Path, format_name: FormatName, options: ReadOptions) -> ImportedLog:
    """Open a log with the reader named, or with the one that fits.

    Raises:
        ConfigError: If an option is given that the format has no use for.
        DataError: If none fits, or the log is malformed.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the path of a log file or dataset folder.")
    name = detect(path) if format_name == "auto" else format_name
    _require_used(path, name, options)
    return READERS[name](path, options)


def _require_used(path: Path, name: str, options: ReadOptions) -> None:
    """Refuse what would be passed over: all of a log would be read where --filter wanted a part."""
    plain = ReadOptions()
    for option in ("env", "obs_keys", "filter", "reward_key", "replay", "topics"):
        value = getattr(options, option)
        if value == getattr(plain, option) or option in USES[name] or (option == "env" and value == "none"):
            continue
        others = ", ".join(other for other, used in USES.items() if option in used)
        raise ConfigError(
            f"--{option.replace('_', '-')} is for {others}; {path} is read as {name}, which has no use for it. Leave "
            f"it out."
        )


def detect(path: Path) -> str:
    """Name of the format of the log at `path`.

    Raises:
        DataError: If it is none that can be read; formats that are only recognised are named.
    """
    if path.is_dir():
        return _detect_folder(path)
    if path.suffix == ".mcap":
        return "mcap" if is_session(path) else "bag"
    if path.suffix in (".db3", ".bag"):
        return "bag"
    if path.suffix == ".npz":
        return "npz"
    if ".tfrecord" in path.name:
        return "rlds"
    if path.suffix in (".parquet", ".jsonl", ".mp4"):
        raise DataError(f"{path} is a part of a LeRobot dataset; give the folder that holds its 'meta' and 'data'.")
    return _detect_hdf5(path)


def _detect_folder(path: Path) -> str:
    if (path / "data" / "metadata.json").is_file():
        return "minari"
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    if is_rlds(path) or any(is_rlds(p) for p in path.iterdir() if p.is_dir()):
        return "rlds"
    recordings = recordings_in(path)
    if recordings and not any(r.suffix == ".mcap" and is_session(r) for r in recordings):
        return "bag"
    logs = sorted(f.name for f in path.iterdir() if f.suffix in (".hdf5", ".h5", ".npz", ".mcap", ".db3", ".bag"))
    if logs:
        raise DataError(f"{path} is a folder of logs: {', '.join(logs[:6])}. Give one of these files.")
    raise DataError(
        f"{path} is a folder of no known kind: without Minari's data/metadata.json, LeRobot's meta/info.json, and "
        f"RLDS's features.json or *.tfrecord files. Known: {', '.join(READERS)}."
    )


def _detect_hdf5(path: Path) -> str:
    if not h5py.is_hdf5(path):
        raise DataError(
            f"{path} is of no known kind: it is not HDF5 (robomimic, robosuite, d4rl), and not named .mcap, .npz or "
            f".tfrecord; or its download was cut. Known: {', '.join(READERS)}."
        )
    with opened(path) as file:
        if "actions" in file and "observations" in file:
            return "d4rl"
        if "data" not in file:
            raise DataError(
                f"{path} is HDF5 of no known kind: neither group 'data' (robomimic, robosuite) nor arrays "
                f"'observations' and 'actions' (d4rl); there are: {listing(file)}."
            )
        data = group(file, "data", path)
        first = group(data, numbered_groups(data, "demo_", path)[0], path)
        raw = isinstance(first.get("states"), h5py.Dataset) and "obs" not in first
        return "robosuite" if raw else "robomimic"  # Isaac Lab's states are a group
