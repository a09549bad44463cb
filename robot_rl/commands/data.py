"""`robot-rl data import|topics|merge|info|doctor|frame|export`: logs in, figures, verdicts, pictures and logs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from robot_rl.commands.data_doctor import DOCTOR_HELP, doctor
from robot_rl.commands.data_export import EXPORT_HELP, export
from robot_rl.commands.data_frame import FRAME_HELP, frame
from robot_rl.commands.data_merge import MERGE_HELP, merge
from robot_rl.commands.data_topics import TOPICS_HELP, topics
from robot_rl.config import nearest, parse
from robot_rl.console import after_data, make_console, print_json, progress_bar
from robot_rl.data.dataset import load_dataset, write_dataset
from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import FormatName, ReadOptions
from robot_rl.data.formats.registry import open_log
from robot_rl.data.success import SuccessLabeller, SuccessRule, can_label
from robot_rl.data.summary import summarise
from robot_rl.errors import ConfigError, DataError, EnvError
from robot_rl.spec import Spec

IMPORT_HELP = """Turn a log into a dataset folder. Known formats: LeRobot v2 and v3, RLDS, robomimic HDF5 (also Isaac
Lab's), robosuite's raw demo.hdf5, D4RL HDF5, Minari folders, rollouts in .npz, sessions recorded by `serve` (MCAP),
ROS bags and other MCAP files by a mapping of their topics (`robot-rl data topics`); --format auto looks inside.
Nothing is written unless all of it could be read.

    robot-rl data import demo.hdf5 --out data/lift"""
INFO_HELP = "Print what a dataset holds: episodes, steps, rate, shapes, ranges, return and success."


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Import a log."""

    source: tyro.conf.Positional[Path]  # log file or dataset folder
    out: Path  # dataset folder to write; must not exist
    format: FormatName = "auto"  # format of the log
    env: str = ""  # Gymnasium id it was made in; default what the log says, "none" for none
    obs_keys: tuple[str, ...] = ()  # observation keys or columns, in order; default the usual ones
    filter: str = ""  # robomimic filter key, or LeRobot or RLDS split, such as train
    reward_key: str = "rewards"  # D4RL array to take rewards from
    trust_rows: bool = False  # where a log's metadata contradicts its rows, read the rows and note it
    skip_damaged: bool = False  # leave out episodes that cannot be read, and note why (not RLDS, D4RL, bags)
    actions: Literal["clip", "refuse"] = "clip"  # what to do with actions beyond the bounds
    topics: Path | None = None  # ROS bags and foreign MCAP: YAML made by `robot-rl data topics SRC --write FILE`
    replay: bool = False  # robosuite: also replay the actions open loop and count successes
    success: SuccessRule = "auto"  # where labels come from when the rewards don't tell
    json: bool = False  # one JSON object on standard output


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """Look at a dataset."""

    dataset: tyro.conf.Positional[Path]  # dataset folder
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Find the sub-command and run it."""
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "import": import_,
        "topics": topics,
        "merge": merge,
        "info": info,
        "doctor": doctor,
        "frame": frame,
        "export": export,
    }
    texts = {
        "import": IMPORT_HELP,
        "topics": TOPICS_HELP,
        "merge": MERGE_HELP,
        "info": INFO_HELP,
        "doctor": DOCTOR_HELP,
        "frame": FRAME_HELP,
        "export": EXPORT_HELP,
    }
    if not argv or argv[0] in ("-h", "--help"):
        out = make_console()
        out.print(f"usage: robot-rl data {'|'.join(verbs)} [options]\n", markup=False)
        for name, text in texts.items():
            out.print(f"  [cyan]{name:<8}[/] {text.splitlines()[0]}")
        return 0 if argv else 2
    if argv[0] not in verbs:
        raise ConfigError(f"No command 'data {argv[0]}'.{nearest(argv[0], verbs)}")
    return verbs[argv[0]](argv[1:])


def import_(argv: Sequence[str]) -> int:
    """`robot-rl data import SRC --out DIR`."""
    config = parse(ImportConfig, argv, prog="robot-rl data import", description=IMPORT_HELP)
    require_new(config.out)
    start = time.perf_counter()
    damaged: list[str] = []
    options = ReadOptions(
        env=config.env,
        obs_keys=config.obs_keys,
        filter=config.filter,
        reward_key=config.reward_key,
        replay=config.replay,
        trust_rows=config.trust_rows,
        topics=config.topics,
        damaged=damaged if config.skip_damaged else None,
    )
    log = open_log(config.source, config.format, options)
    clipper = _Clipper(log.spec, refuse=config.actions == "refuse")
    episodes: Iterable[Episode] = clipper.check(log.episodes)
    unlabelled: list[str] = []
    labeller = _labeller(config, log.format, log.spec.env_id, unlabelled)
    if labeller is not None:
        episodes = labeller.label(episodes)
    with progress_bar(hidden=config.json) as bar:
        task = bar.add_task(f"reading {log.format}", total=log.count, note="")
        tracked = bar.track(episodes, total=log.count, task_id=task)

        def notes() -> list[str]:
            left_out = [f"left out: {what}" for what in damaged]
            labelled = unlabelled if labeller is None else [labeller.note]
            return [*log.notes, *left_out, *clipper.notes, *labelled]

        dataset = write_dataset(config.out, log.spec, tracked, origin=str(config.source.name), notes=notes)
    if config.json:
        print_json(
            {
                "format": log.format,
                "out": str(config.out),
                "episodes": dataset.total_episodes,
                "steps": dataset.total_steps,
                "env_id": log.spec.env_id,
                "successes": sum(bool(s) for s in dataset.successes()),
                "notes": list(dataset.notes),
                "seconds": time.perf_counter() - start,
            }
        )
        return 0
    out = make_console()
    out.print(summarise(dataset).table())
    out.print(f"imported as {log.format} in {time.perf_counter() - start:.1f} s", markup=False)
    out.print(after_data(config.out))
    return 0


def info(argv: Sequence[str]) -> int:
    """`robot-rl data info DIR`."""
    config = parse(LookConfig, argv, prog="robot-rl data info", description=INFO_HELP)
    summary = summarise(load_dataset(config.dataset))
    if config.json:
        print_json(summary.to_dict())
    else:
        make_console().print(summary.table())
    return 0


def _labeller(config: ImportConfig, format_name: str, env_id: str, notes: list[str]) -> SuccessLabeller | None:
    """Labels by observation and replay, where the environment offers them and the log has none; else perhaps a note."""
    if config.success == "none" or (config.success == "auto" and format_name in ("robosuite", "minari", "mcap", "bag")):
        return None
    try:
        able = can_label(env_id)
    except EnvError as error:
        if config.success != "auto":
            raise
        notes.append(f"success is the log's own: '{env_id}' cannot be made here to label it ({error})")
        return None
    if able:
        return SuccessLabeller(env_id, config.success)
    if config.success == "auto":
        return None
    raise ConfigError(
        f"--success {config.success} needs an environment that can be reset to a logged observation; "
        f"'{env_id or 'none'}' cannot. Use --success auto or none."
    )


class _Clipper:
    """Brings logged actions to the bounds that the environment enforced, and counts them."""

    def __init__(self, spec: Spec, *, refuse: bool) -> None:
        self.low, self.high, self.refuse = spec.action_low, spec.action_high, refuse
        self.known = bool(spec.env_id)
        self.clipped, self.total, self.furthest = 0, 0, 0.0

    def check(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        for episode in episodes:
            executed = np.clip(episode.actions, self.low, self.high)
            beyond = np.abs(episode.actions - executed)
            count = int((beyond > 0).sum())
            if count and self.refuse:
                row, column = np.unravel_index(int(beyond.argmax()), beyond.shape)
                raise DataError(
                    f"{episode.source}: action {column} of row {row} is {episode.actions[row, column]:.4g}, bounds "
                    f"are {self.low[column]:g} to {self.high[column]:g} ({count} such entries). Use --actions clip to "
                    f"store what the environment executed."
                )
            self.clipped, self.total = self.clipped + count, self.total + beyond.size
            self.furthest = max(self.furthest, float(beyond.max()))
            yield replace(episode, actions=executed) if count else episode

    @property
    def notes(self) -> list[str]:
        if not self.clipped:
            return []
        count = (
            f"{self.clipped:,} of {self.total:,} action entries ({self.clipped / self.total:.1%}) lay beyond the "
            f"bounds, by up to {self.furthest:.3g}; stored clipped"
        )
        if self.known:
            return [f"{count}, as the environment executes them"]
        span = f"{self.low.min():g} to {self.high.max():g}"
        return [
            f"{count}. No environment says that these bounds ({span}) are the robot's: where its actions are in other "
            f"units, clipping spoils them; name the environment with --env"
        ]
