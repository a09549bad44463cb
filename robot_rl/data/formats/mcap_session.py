"""Sessions recorded by `robot-rl serve` (MCAP): what the arm was really told, as episodes.

The action is the executed one, behind the safety supervisor. Where commands are sent faster than the
policy acts, a step's action is the last command and its reward the sum over its commands, as in learning on the arm.
A file that was cut gives all of its whole steps; the last episode then ends as truncated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import ImportedLog, ReadOptions
from robot_rl.data.session import EPISODE, EXECUTED, OBSERVATION, REWARD, TIMING, Session, join, open_session
from robot_rl.errors import DataError


@dataclass
class _Steps:
    """An episode being read."""

    number: int
    observations: list[list[float]] = field(default_factory=list[list[float]])
    actions: list[list[float]] = field(default_factory=list[list[float]])
    rewards: list[float | None] = field(default_factory=list[float | None])
    times: list[float] = field(default_factory=list[float])
    fresh: bool = False  # an observation came, its tick's time is still to come

    def take(self, topic: str, message: dict[str, Any], session: Session) -> None:
        """Add one message."""
        if topic == OBSERVATION:
            self.observations.append(join(session.spec.observation, message))
            self.fresh = True
        elif topic == EXECUTED:
            self._set(self.actions, join(session.spec.action, message))
        elif topic == REWARD:
            self._pay(message["reward"])
        elif topic == TIMING and self.fresh:
            self.times.append(float(message["start_s"]))
            self.fresh = False

    def _set(self, rows: list[Any], value: Any) -> None:
        """The last value of a step wins."""
        step = len(self.observations) - 1
        del rows[max(step, 0) :]
        rows.append(value)

    def _pay(self, reward: float | None) -> None:
        """Rewards of a step add up."""
        step = len(self.observations) - 1
        before = self.rewards[step] if 0 <= step < len(self.rewards) else None
        self._set(self.rewards, reward if before is None or reward is None else before + reward)

    def close(self, session: Session, end: dict[str, Any] | None) -> Episode | None:
        """The episode, (T+1) observations; None where there is no whole step.

        Args:
            session: Where it comes from.
            end: The message that ended it; None where the file was cut.
        """
        observations, actions, rewards = self.observations, self.actions, self.rewards
        if end is not None and "final" in end:
            observations = [*observations, join(session.spec.observation, end["final"])]
        paid = [0.0 if r is None else r for r in rewards] if rewards else [0.0] * len(actions)
        steps = min(len(observations) - 1, len(actions), len(paid))
        if steps < 1:
            return None
        terminated = bool(end and end.get("terminated"))
        times = np.array(self.times[: steps + 1])
        if len(times) == steps and steps > 1:  # the final observation has no tick of its own
            times = np.append(times, times[-1] + (times[-1] - times[-2]))
        return Episode(
            observations=np.array(observations[: steps + 1], np.float32),
            actions=np.array(actions[:steps], np.float32),
            rewards=np.array(paid[:steps], np.float32),
            terminated=terminated,
            truncated=not terminated,
            success=None if end is None else end.get("success"),
            timestamps=times if len(times) == steps + 1 else None,
            source=f"{session.path.name}:episode {self.number}",
        )


def read_session(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a session file.

    Raises:
        DataError: If it is no session of ours or holds no whole step.
    """
    session = open_session(path)
    if options.env not in ("", "none", session.spec.env_id):
        raise DataError(
            f"{path} was recorded in '{session.spec.env_id}', not in '{options.env}'. Leave --env out: the session "
            f"says what its numbers mean."
        )
    count, rewarded, bad = 0, False, 0
    for episode, has_rewards in _read(session):
        if episode is None:
            bad += 1
            continue
        count, rewarded = count + 1, rewarded or has_rewards
    if count == 0:
        raise DataError(f"{path} holds no whole step with usable numbers; there is nothing to import.")
    notes: list[str] = ["actions are the executed ones, behind the safety supervisor"]
    if not rewarded:
        notes.append("the arm gave no rewards: they are stored as 0")
    if bad:
        notes.append(f"{bad} episodes without a whole step, or with NaN or infinity, left out")
    if not session.is_whole():
        notes.append("the file was cut: read up to its last whole step")
    episodes = (episode for episode, _ in _read(session) if episode is not None)
    return ImportedLog(format="mcap", spec=session.spec, count=count, episodes=episodes, notes=tuple(notes))


def _read(session: Session) -> Iterator[tuple[Episode | None, bool]]:
    """Each episode and whether it has rewards; None for one that cannot be used."""
    steps: _Steps | None = None
    number = 0
    for topic, message in session.messages():
        if topic != EPISODE:
            if steps is not None:
                steps.take(topic, message, session)
        elif message["event"] == "begin":
            steps = _Steps(number)
            number += 1
        elif steps is not None:
            yield _usable(steps.close(session, message)), bool(steps.rewards)
            steps = None
    if steps is not None:
        yield _usable(steps.close(session, None)), bool(steps.rewards)


def _usable(episode: Episode | None) -> Episode | None:
    finite = episode is not None and all(
        np.isfinite(values).all() for values in (episode.observations, episode.actions, episode.rewards)
    )
    return episode if finite else None
