"""`robot-rl data topics BAG`: what a recording holds, and a mapping file to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.table import Table

from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.data.bags.recording import open_recording, recordings_in
from robot_rl.data.bags.survey import Surveyed, starting_file, survey
from robot_rl.data.durable import require_new
from robot_rl.errors import DataError

TOPICS_HELP = """List the topics of a ROS bag or MCAP file: type, messages, rate and fields that can be mapped. --write
FILE leaves a mapping to start from; look through it and give it to `robot-rl data import BAG --topics FILE`.

    robot-rl data topics pick_03 --write topics.yaml"""


@dataclass(frozen=True, kw_only=True)
class TopicsConfig:
    """List topics."""

    source: tyro.conf.Positional[Path]  # rosbag2 folder, .mcap, .db3 or .bag file, or a folder of them
    write: Path | None = None  # mapping file to write; must not exist
    json: bool = False  # one JSON object on standard output


def topics(argv: Sequence[str]) -> int:
    """Survey the (first) recording and print or write what it shows."""
    config = parse(TopicsConfig, argv, prog="robot-rl data topics", description=TOPICS_HELP)
    if config.write is not None:
        require_new(config.write, "--write")
    if not config.source.exists():
        raise DataError(f"{config.source} does not exist. Give the path of a recording.")
    recording = open_recording(next(iter(recordings_in(config.source)), config.source))
    found = survey(recording)
    if config.write is not None:
        config.write.write_text(starting_file(found, recording.path.name))
    if config.json:
        print_json({"path": str(recording.path), "notes": list(recording.notes), "topics": [_facts(s) for s in found]})
        return 0
    out = make_console()
    out.print(_table(str(recording.path), found))
    for note in recording.notes:
        out.print(f"note: {note}", markup=False)
    if config.write is not None:
        text = f"wrote {config.write}; look through it, then: robot-rl data import {config.source} --topics "
        out.print(f"{text}{config.write} --out DIR", markup=False)
    return 0


def _facts(one: Surveyed) -> dict[str, object]:
    return {
        "name": one.topic.name,
        "type": one.topic.kind,
        "count": one.topic.count,
        "rate_hz": one.rate_hz,
        "fields": {path or "(all)": list(names) for path, names, _ in one.fields},
        "joints": list(one.joints),
        "header_stamp": one.stamped,
        "problem": one.topic.problem,
    }


def _table(title: str, found: list[Surveyed]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("topic", "type", "messages", "rate", "fields"):
        table.add_column(name, justify="right" if name in ("messages", "rate") else "left", overflow="fold")
    for one in found:
        fields = ", ".join(f"{path or '(all)'}: {len(names)}" for path, names, _ in one.fields)
        rate = f"{one.rate_hz:.1f} Hz" if one.rate_hz else ""
        table.add_row(one.topic.name, one.topic.kind, f"{one.topic.count:,}", rate, one.topic.problem or fields)
    return table
