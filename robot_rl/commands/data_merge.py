"""`robot-rl data merge`: one dataset of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from robot_rl.config import parse
from robot_rl.console import after_data, make_console, print_json, progress_bar
from robot_rl.data.dataset import Dataset, load_dataset, write_dataset
from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode
from robot_rl.data.summary import summarise
from robot_rl.errors import ConfigError

MERGE_HELP = """Make one dataset of several whose observations and actions agree, entry by entry: days of recording, or
tasks of one robot. Episodes keep their order and say which folder they came from; the folders stay as they are.

    robot-rl data merge data/monday data/tuesday --out data/lift"""

UNSPECIFIED = "unspecified"


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Merge datasets."""

    datasets: tyro.conf.Positional[tuple[Path, ...]]  # dataset folders, two or more
    out: Path  # dataset folder to write; must not exist
    json: bool = False  # one JSON object on standard output


def merge(argv: Sequence[str]) -> int:
    """`robot-rl data merge A B ... --out DIR`."""
    config = parse(MergeConfig, argv, prog="robot-rl data merge", description=MERGE_HELP)
    require_new(config.out)
    folders = [folder.resolve() for folder in config.datasets]
    if len(set(folders)) < max(2, len(folders)):
        raise ConfigError(
            f"`data merge` takes two or more dataset folders, each once; it got "
            f"{', '.join(map(str, config.datasets)) or 'none'}."
        )
    datasets = [load_dataset(folder) for folder in config.datasets]
    merged = write_merged(config.out, datasets, quiet=config.json)
    if config.json:
        result = {"out": str(config.out), "episodes": merged.total_episodes, "steps": merged.total_steps}
        print_json(result | {"env_id": merged.spec.env_id, "notes": list(merged.notes)})
        return 0
    out = make_console()
    out.print(summarise(merged).table())
    out.print(after_data(config.out))
    return 0


def write_merged(out: Path, datasets: Sequence[Dataset], *, quiet: bool = False) -> Dataset:
    """Write all episodes of `datasets`, one dataset after another, to the folder `out`.

    Raises:
        DataError: If `out` exists.
        SpecMismatch: If two of them disagree.
    """
    for place, other in enumerate(datasets):
        for first in datasets[:place]:  # all pairs: one that does not know its rate fits two that disagree
            first.spec.require_match(
                other.spec, str(first.path), str(other.path), "Import or record both in the same way, or leave one out."
            )
    made_in = list(dict.fromkeys(d.spec.env_id for d in datasets))
    rate_hz = next((d.spec.rate_hz for d in datasets if d.spec.rate_hz), 0.0)
    control = next((d.spec.control for d in datasets if d.spec.control != UNSPECIFIED), UNSPECIFIED)
    env_id = made_in[0] if len(made_in) == 1 else ""
    spec = replace(datasets[0].spec, rate_hz=rate_hz, control=control, env_id=env_id)
    seen: set[str] = set()
    total = sum(d.total_episodes for d in datasets)
    notes = [f"{d.path.name}: {note}" for d in datasets for note in d.notes]
    if len(made_in) > 1:
        named = ", ".join(name or "none" for name in made_in)
        notes.append(f"episodes of several environments ({named}): name the one to evaluate in with --env")
    for what, value, silent in (
        ("rate", f"{rate_hz:g} Hz", [d.path.name for d in datasets if not d.spec.rate_hz]),
        ("control mode", control, [d.path.name for d in datasets if d.spec.control == UNSPECIFIED]),
    ):
        if 0 < len(silent) < len(datasets):
            notes.append(f"{', '.join(silent)} states no {what}: taken to be the others', {value}")

    def all_notes() -> list[str]:
        again = total - len(seen)
        return notes + ([f"{again} of {total} episodes repeat an earlier one"] if again else [])

    with progress_bar(hidden=quiet) as bar:
        task = bar.add_task("merging", total=total, note="")
        episodes = bar.track(_episodes(datasets, seen), total=total, task_id=task)
        return write_dataset(out, spec, episodes, origin=" + ".join(d.path.name for d in datasets), notes=all_notes)


def _episodes(datasets: Sequence[Dataset], seen: set[str]) -> Iterator[Episode]:
    for dataset in datasets:
        for episode in dataset:
            seen.add(episode.digest)
            yield replace(episode, source=f"{dataset.path.name}: {episode.source}")
