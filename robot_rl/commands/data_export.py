"""`robot-rl data export`: a dataset in another project's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.data.exporters.lerobot import export_lerobot
from robot_rl.data.exporters.minari import export_minari
from robot_rl.data.exporters.robomimic import export_robomimic

EXPORT_HELP = """Write a dataset in another project's format: robomimic HDF5, Minari or LeRobot v3.0. Our importer reads
each back; what a format has no place for travels in fields that its own tools pass over.

    robot-rl data export data/lift --format lerobot --out lift_lerobot --task "lift the cube"
"""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a dataset."""

    dataset: tyro.conf.Positional[Path]  # dataset folder
    out: Path  # file (robomimic) or folder to write; must not exist
    format: Literal["robomimic", "minari", "lerobot"]  # whose format
    task: str = ""  # LeRobot: text of the task; default where the dataset came from
    fps: float = 0.0  # LeRobot: rate of a dataset that does not know its own, Hz
    id: str = ""  # Minari: dataset id, such as door/human-v0
    json: bool = False  # one JSON object on standard output


def export(argv: Sequence[str]) -> int:
    """`robot-rl data export DIR --format F --out PATH`."""
    config = parse(ExportConfig, argv, prog="robot-rl data export", description=EXPORT_HELP)
    dataset = load_dataset(config.dataset)
    if config.format == "robomimic":
        notes = export_robomimic(dataset, config.out)
    elif config.format == "minari":
        notes = export_minari(dataset, config.out, config.id)
    else:
        notes = export_lerobot(dataset, config.out, config.task or dataset.origin, config.fps)
    if config.json:
        print_json(
            {
                "format": config.format,
                "out": str(config.out),
                "episodes": dataset.total_episodes,
                "steps": dataset.total_steps,
                "notes": notes,
            }
        )
        return 0
    out = make_console()
    out.print(
        f"{config.out}: {dataset.total_episodes} episodes, {dataset.total_steps:,} steps as {config.format}",
        markup=False,
    )
    for note in notes:
        out.print(f"  {note}", markup=False)
    return 0
