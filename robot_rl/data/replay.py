"""Replay: transitions ready to be sampled. Offline and online data share it; `mixture` draws from both.

One row a transition in one matrix, so a batch is a single gather. The rows know where episodes end, so
a replay can always be written back as a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.episode import Episode
from robot_rl.data.row_table import RowTable
from robot_rl.data.sequences import Sequences, span
from robot_rl.data.transition import Rows
from robot_rl.errors import ConfigError, DataError
from robot_rl.spec import Array, Spec

MEMORY_GB = 2.0  # of logged transitions; more of them lie in a file
_TERMINATED, _TRUNCATED, _UNSEEN = 1.0, 2.0, 3.0  # values of the `end` column; 0 inside an episode


class Batch(NamedTuple):
    """B transitions in the robot's units.

    Args:
        obs: (B, S).
        action: (B, A), as executed.
        reward: (B,).
        mask: (B,), 0 where the task terminated, else 1: what the next value is multiplied with.
        next_obs: (B, S).
        real: (B,), 1 where the action was taken in the world, 0 where the learner's own was tried in a model: nobody
            showed that one, so it is not to be cloned.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    mask: Tensor
    next_obs: Tensor
    real: Tensor


class TransitionSource(Protocol):
    """Whatever batches can be drawn from."""

    def __len__(self) -> int: ...

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions, drawn uniformly with replacement."""
        ...


class Replay:
    """A ring of transitions.

    Args:
        spec: Gives the widths.
        capacity: Most transitions kept; the oldest leave first.
        device: Where the rows live.
    """

    def __init__(self, spec: Spec, capacity: int, device: str = "cpu") -> None:
        if capacity < 1:
            raise ConfigError(f"Replay capacity is {capacity}; it must be at least 1.")
        self.spec = spec
        self.capacity = capacity
        s, a = spec.obs_dim, spec.action_dim
        self._splits = [s, a, 1, 1, s, 1]  # obs, action, reward, mask, next_obs, end
        self._rows = torch.zeros(capacity, sum(self._splits), device=device)
        self._device = device
        self._table: RowTable | None = None  # where the rows lie in a file
        self._usable: Tensor | None = None  # row numbers; None while every row may be drawn
        self._next = 0
        self._size = 0

    @staticmethod
    def of(
        spec: Spec,
        episodes: Iterable[Episode],
        device: str = "cpu",
        *,
        beside: Path | None = None,
        memory_gb: float = MEMORY_GB,
    ) -> Replay:
        """A replay that holds exactly `episodes`.

        Args:
            spec: Gives the widths.
            episodes: Consumed one by one.
            device: Where batches are wanted.
            beside: Folder for a file of the rows where they exceed `memory_gb`; None keeps them in memory.
            memory_gb: Most rows kept in memory, GB.

        Raises:
            DataError: If there is none, or the file cannot be written.
        """
        unseen: list[int] = []
        table = RowTable(_noted(episodes, unseen), beside, memory_gb)
        replay = Replay(spec, 1, device)
        replay._table = table if table.in_file else None
        replay._rows = table.rows if table.in_file else table.rows.to(device)
        replay.capacity = replay._size = len(table.rows)
        if unseen:
            usable = torch.ones(len(table.rows), dtype=torch.bool)
            usable[unseen] = False
            replay._usable = torch.nonzero(usable).squeeze(1).to(device)
        return replay

    def __len__(self) -> int:
        """Number of transitions that may be drawn."""
        return self._size if self._usable is None else len(self._usable)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions, drawn uniformly with replacement.

        Raises:
            DataError: If there is no transition yet.
        """
        count = len(self)
        if count == 0:
            raise DataError("The replay is empty; nothing to draw a batch from.")
        picked = torch.randint(count, (size,), generator=generator, device=self._device)
        if self._usable is not None:
            picked = self._usable[picked]
        if self._table is None:
            rows = self._rows.index_select(0, picked)
        else:
            rows = self._table.gather(picked.cpu()).to(self._device)
        obs, action, reward, mask, next_obs, _ = rows.split(self._splits, dim=1)
        return Batch(obs, action, reward.squeeze(1), mask.squeeze(1), next_obs, reward.new_ones(len(reward)))

    def sequences(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """`count` pieces of episodes, of `length` transitions or fewer where an episode is shorter.

        Rows that another actor's interrupt are the end of a piece.

        Raises:
            DataError: If there is no transition yet.
        """
        if self._size == 0:
            raise DataError("The replay is empty; nothing to draw a sequence from.")
        picked = torch.randint(self._size, (count,), generator=generator, device=self._device)
        offset = torch.randint(length, (count,), generator=generator, device=self._device)
        around = picked[:, None] + torch.arange(1 - length, length, device=self._device)  # (B, 2L-1), oldest row 0
        rows = self._gather_aged(around.clamp(0, self._size - 1))
        start, steps = span(self._nothing_follows(rows, around), offset)
        places = start[:, None] + torch.arange(length, device=self._device).minimum(steps[:, None] - 1)
        rows = rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2])).transpose(0, 1)  # (L, B, W)
        obs, action, reward, mask, next_obs, end = rows.split(self._splits, dim=2)
        exists = torch.arange(length, device=self._device)[:, None] < steps
        valid = exists & (end.squeeze(2) != _UNSEEN)
        return Sequences(torch.cat([obs[:1], next_obs]), action, reward.squeeze(2), mask.squeeze(2), valid.float())

    def _gather_aged(self, ages: Tensor) -> Tensor:
        """Rows by age, 0 the oldest, (..., W)."""
        places = (ages + self._next) % self.capacity if self._size == self.capacity else ages
        if self._table is not None:
            return self._table.gather(places.flatten().cpu()).to(self._device).view(*places.shape, -1)
        return self._rows[places]

    def _nothing_follows(self, rows: Tensor, ages: Tensor) -> Tensor:
        """Where a row is its episode's last, or the next one is not its continuation, (B, 2L-1)."""
        first, size = sum(self._splits[:4]), self._splits[0]
        ended = (rows[..., -1] != 0) | (ages < 0) | (ages >= self._size - 1)
        broken = (rows[:, 1:, :size] != rows[:, :-1, first : first + size]).any(2)
        ended[:, :-1] |= broken
        return ended

    def transitions(self) -> Batch:
        """Every transition that may be drawn, once each, in the order of the rows."""
        rows = self._rows[: self._size] if self._usable is None else self._rows[self._usable]
        obs, action, reward, mask, next_obs, _ = rows.split(self._splits, dim=1)
        return Batch(obs, action, reward.squeeze(1), mask.squeeze(1), next_obs, reward.new_ones(len(reward)))

    def add(self, episode: Episode) -> None:
        """Append an episode, or a piece of one, transition by transition."""
        self._put(_rows_of(episode))

    def extend(self, rows: Rows) -> None:
        """Append transitions as they come over the bridge or from a replay log, (N,)."""
        self._put(_table_of(rows))

    def episodes(self) -> Iterator[Episode]:
        """The stored transitions as episodes, in the order in which they ended: the replay is a dataset.

        Those of several actors lie interleaved: a piece continues the one whose last observation it begins with. What
        did not end comes last.
        """
        order = torch.arange(self._size)
        if self._size == self.capacity:
            order = (order + self._next) % self.capacity
        rows = self._rows[order].cpu().numpy()
        first, size = sum(self._splits[:4]), self._splits[0]
        before, after = rows[:, :size], rows[:, first : first + size]
        cuts = np.flatnonzero((rows[:-1, -1] != 0) | (before[1:] != after[:-1]).any(1)) + 1
        running: dict[bytes, list[Array]] = {}  # by the observation that goes on
        for piece in np.split(rows, cuts) if len(rows) else []:
            pieces = [*running.pop(piece[0, :size].tobytes(), []), piece]
            if piece[-1, -1] != 0:
                yield self._episode(np.concatenate(pieces))
            else:
                running[piece[-1, first : first + size].tobytes()] = pieces
        for pieces in running.values():
            yield self._episode(np.concatenate(pieces))

    def _put(self, rows: Tensor) -> None:
        dropped = max(
            0, len(rows) - self.capacity
        )  # they pass through, so that a ring filled at once lies as if one by one
        rows = rows.to(self._rows.device)[dropped:]
        self._next += dropped
        where = (self._next + torch.arange(len(rows), device=self._rows.device)) % self.capacity
        self._rows[where] = rows
        self._next = (self._next + len(rows)) % self.capacity
        self._size = min(self._size + len(rows), self.capacity)
        if self._usable is not None or bool((rows[:, -1] == _UNSEEN).any()):
            self._index()

    def _episode(self, rows: Array) -> Episode:
        obs, action, reward, _, next_obs, _ = np.split(rows, np.cumsum(self._splits)[:-1], axis=1)
        end = rows[-1, -1]
        return Episode(
            observations=np.concatenate([obs, next_obs[-1:]]),
            actions=action,
            rewards=reward[:, 0],
            terminated=bool(end == _TERMINATED),
            truncated=bool(end != _TERMINATED),
            final_observed=bool(end != _UNSEEN),
        )

    def _index(self) -> None:
        """Leave out transitions whose next observation the log lacks."""
        seen = self._rows[: self._size, -1] != _UNSEEN
        self._usable = None if bool(seen.all()) else torch.nonzero(seen).squeeze(1)


def _noted(episodes: Iterable[Episode], unseen: list[int]) -> Iterator[Tensor]:
    """Rows of each episode; `unseen` gets the places of those without a next observation."""
    count = 0
    for episode in episodes:
        rows = _rows_of(episode)
        count += len(rows)
        if rows[-1, -1] == _UNSEEN:
            unseen.append(count - 1)
        yield rows


def _rows_of(episode: Episode) -> Tensor:
    steps = len(episode)
    mask, end = np.ones((steps, 1), np.float32), np.zeros((steps, 1), np.float32)
    if episode.terminated:
        mask[-1], end[-1] = 0.0, _TERMINATED
    elif not episode.final_observed:
        end[-1] = _UNSEEN
    elif episode.truncated:
        end[-1] = _TRUNCATED
    obs, reward = episode.observations, episode.rewards[:, None]
    return torch.from_numpy(np.hstack([obs[:-1], episode.actions, reward, mask, obs[1:], end]))


def _table_of(rows: Rows) -> Tensor:
    terminated, truncated = rows["terminated"].astype(np.float32), rows["truncated"].astype(np.float32)
    end = np.where(terminated > 0, _TERMINATED, _TRUNCATED * truncated).astype(np.float32)
    scalars = [rows["reward"][:, None], 1.0 - terminated[:, None]]
    return torch.from_numpy(np.hstack([rows["obs"], rows["action"], *scalars, rows["next_obs"], end[:, None]]))
