"""A dataset as a Minari dataset, in the folder structure that `minari.load_dataset` looks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gymnasium as gym
from minari.dataset.minari_dataset import parse_dataset_id

from robot_rl.data.dataset import Dataset, read_metadata, write_dataset
from robot_rl.data.exporters.whole import whole
from robot_rl.errors import DataError


def export_minari(dataset: Dataset, out: Path, dataset_id: str) -> list[str]:
    """Write `out`, to be given as MINARI_DATASETS_PATH; returns what a user should know.

    Args:
        dataset: What to write.
        out: Folder to create; the dataset lies in it under its id.
        dataset_id: Such as "door/human-v0"; "" makes one from the dataset's folder.

    Raises:
        DataError: If the id is none, or `out` exists.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "-", dataset.path.name).strip("-").lower() or "dataset"
    chosen = dataset_id or f"robot-rl/{name}-v0"
    try:
        space, _, _ = parse_dataset_id(chosen)
    except (ValueError, TypeError) as error:
        raise DataError(f"'{chosen}' is no Minari id; write NAMESPACE/NAME-vVERSION, such as door/human-v0.") from error
    if space is None or not re.search(r"-v\d+$", chosen) or ".." in chosen:
        raise DataError(f"'{chosen}' is no full Minari id; write NAMESPACE/NAME-vVERSION, such as door/human-v0.")
    with whole(out) as work:
        folder = work / chosen
        write_dataset(folder, dataset.spec, dataset, origin=dataset.origin, notes=dataset.notes)
        metadata = read_metadata(folder) | {"dataset_id": chosen, "description": dataset.origin}
        if dataset.spec.env_id in gym.registry:
            metadata["env_spec"] = gym.spec(dataset.spec.env_id).to_json()
        (folder / "data" / "metadata.json").write_text(json.dumps(metadata))
        (folder.parent / "namespace_metadata.json").write_text(json.dumps({}))
    return [f"open it with MINARI_DATASETS_PATH={out} and minari.load_dataset('{chosen}')"]
