"""What every reader takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from robot_rl.data.episode import Episode
from robot_rl.errors import DataError
from robot_rl.spec import Spec

FormatName = Literal["auto", "robomimic", "robosuite", "d4rl", "minari", "mcap", "lerobot", "rlds", "npz", "bag"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user may say about a log.

    Args:
        env: Gymnasium id the log was made in; "" to read it from the log, "none" for none.
        obs_keys: Observation keys (robomimic) or columns (LeRobot, RLDS) in order; empty for the usual ones.
        filter: robomimic filter key, or LeRobot or RLDS split, such as "train".
        reward_key: D4RL array to take rewards from.
        replay: Replay raw robosuite actions open loop and note how many succeed.
        trust_rows: Read what the rows hold where the log's metadata contradicts them, and note it.
        topics: YAML that maps a recording's topics to observation and action.
        damaged: Takes what is wrong with each episode that cannot be read, and reading goes on; None to stop there.
    """

    env: str = ""
    obs_keys: tuple[str, ...] = ()
    filter: str = ""
    reward_key: str = "rewards"
    replay: bool = False
    trust_rows: bool = False
    topics: Path | None = None
    damaged: list[str] | None = None


T = TypeVar("T")
R = TypeVar("R")


def sound(items: Iterable[T], read: Callable[[T], R], options: ReadOptions) -> Iterator[R]:
    """What `read` makes of `items`, episodes or parts of them, without those that it refuses where `options` says so.

    Raises:
        DataError: The first refusal, otherwise.
    """
    for item in items:
        try:
            found = read(item)
        except DataError as error:
            if options.damaged is None:
                raise DataError(f"{error} Or leave such episodes out: data import --skip-damaged.") from error
            options.damaged.append(str(error))
            continue
        yield found


@dataclass(frozen=True, kw_only=True)
class ImportedLog:
    """A log opened for reading.

    Args:
        format: Name of the format.
        spec: What its numbers mean.
        count: Number of episodes.
        episodes: The episodes, read as they are asked for.
        notes: What a user should know about the reading.
        splits: Named parts and the places of their episodes among all, as the log has them; a place behind the
            last stands for an episode that is not there. Empty where `--filter` has chosen one.
    """

    format: str
    spec: Spec
    count: int
    episodes: Iterator[Episode]
    notes: tuple[str, ...] = ()
    splits: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
