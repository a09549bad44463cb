"""What a dataset has and another project's format does not take over, in words."""

from __future__ import annotations

from robot_rl.data.dataset import Dataset


def left_out(dataset: Dataset) -> list[str]:
    """Lines on pictures and on the importer's notes; none where the dataset has neither."""
    lines: list[str] = []
    if any(dataset.camera_refs()):
        lines.append("pictures are not copied; the exported dataset holds the state alone")
    if dataset.notes:
        lines.append(
            f"what its import noted ({len(dataset.notes)}) is not written; `data info {dataset.path}` shows it"
        )
    return lines
