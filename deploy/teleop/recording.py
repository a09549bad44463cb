"""A recording that survives crashes, and becomes a dataset when it is finished.

    OUT.recording/transitions/     the replay log: every step, on disk before the next one is taken
    OUT.recording/episodes.jsonl   a line for each episode that was kept

Steps behind the last kept episode are the open one: kept whole by a line, or cut off the log again. A killed process
loses at most the step it was writing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from robot_rl.data.dataset import Dataset, write_dataset
from robot_rl.data.durable import append_whole, require_new, sync_folder
from robot_rl.data.episode import Episode
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.transition import Rows, Success
from robot_rl.errors import RecorderError
from robot_rl.spec import Spec


class Kept(msgspec.Struct, frozen=True):
    """An episode that was kept.

    Args:
        stop: Index of the step behind its last one, in the log.
        number: Of the episode: what was added to the seed.
        success: A `Success`.
    """

    stop: int
    number: int
    success: int


class Recording:
    """Episodes on their way to the dataset `out`.

    Args:
        out: Dataset folder to write in the end.
        spec: Of what is recorded.
        resume: Go on with one that was interrupted.

    Raises:
        RecorderError: If `out` exists, or there is an interrupted recording and `resume` is off, or none and it is on.
        DataError: If its files are damaged, or another process writes them.
    """

    def __init__(self, out: Path, spec: Spec, *, resume: bool) -> None:
        self.out, self.spec = out, spec
        self.folder = out.with_name(f"{out.name}.recording")
        _require(out, self.folder, resume=resume)
        self.log = ReplayLog(self.folder / "transitions", spec)
        self._session = hashlib.sha256(b"recording").digest()[:16]
        self._file = self.folder / "episodes.jsonl"
        self.kept = _read_kept(self._file)
        if self.kept and self.kept[-1].stop > len(self.log):
            self.log.close()
            raise RecorderError(
                f"{self._file} counts {self.kept[-1].stop} steps, {self.log.path} holds {len(self.log)}: was a file "
                f"removed? Restore it, or remove {self.folder} to begin anew."
            )

    @property
    def next_number(self) -> int:
        """Of the episode after the last kept one."""
        return self.kept[-1].number + 1 if self.kept else 0

    @property
    def begin(self) -> int:
        """Index of the open episode's first step."""
        return self.kept[-1].stop if self.kept else 0

    @property
    def open_steps(self) -> int:
        """Of the episode that is neither kept nor dropped."""
        return len(self.log) - self.begin

    def add(self, rows: Rows) -> None:
        """Append steps of the open episode; a kill after this returns does not lose them."""
        self.log.append(self._session, len(self.log), rows)

    def keep(self, number: int, success: Success | None = None) -> None:
        """Keep the open episode; nothing happens where it has no steps.

        Args:
            number: What was added to the seed.
            success: A person's word; None for the environment's at the last step.
        """
        if not self.open_steps:
            return
        self.log.sync()
        last = int(self.log.read(len(self.log) - 1)[0]["success"])
        line = Kept(len(self.log), number, last if success is None else int(success))
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            append_whole(fd, [msgspec.json.encode(line) + b"\n"], os.fstat(fd).st_size)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(self.folder)
        self.kept.append(line)

    def drop(self) -> None:
        """Cut the open episode off."""
        self.log.truncate(self.begin)

    def episodes(self) -> Iterator[Episode]:
        """The kept ones, in order."""
        start = 0
        for kept in self.kept:
            rows = self.log.read(start, kept.stop - start)
            start = kept.stop
            by_hand = kept.success == Success.YES != rows["success"][-1]
            if by_hand and not rows["reward"].any():  # nobody but the person judged it: it ends there
                rows["reward"][-1], rows["terminated"][-1] = 1.0, True
            terminated = bool(rows["terminated"][-1])
            yield Episode(
                observations=np.concatenate([rows["obs"], rows["next_obs"][-1:]]),
                actions=rows["action"],
                rewards=rows["reward"],
                terminated=terminated,
                truncated=not terminated,
                success=None if kept.success < 0 else bool(kept.success),
                timestamps=np.arange(len(rows) + 1) / self.spec.rate_hz if self.spec.rate_hz else None,
                source=f"{self.spec.env_id or 'arm'}:recorded:{kept.number}",
            )

    def finish(self, *, origin: str, notes: Sequence[str]) -> Dataset:
        """Write the dataset and remove the recording's folder.

        Raises:
            RecorderError: If no episode was kept.
        """
        if not self.kept:
            self.close()
            raise RecorderError(f"No episode was kept, so there is no dataset {self.out}. Remove {self.folder}.")
        dataset = write_dataset(self.out, self.spec, self.episodes(), origin=origin, notes=notes)
        self.close()
        shutil.rmtree(self.folder)
        return dataset

    def close(self) -> None:
        """Let go of the files; they stay for `resume`."""
        self.log.close()


def _require(out: Path, folder: Path, *, resume: bool) -> None:
    require_new(out, error=RecorderError)
    if folder.exists() and not resume:
        raise RecorderError(
            f"{folder} holds a recording that was interrupted. Go on with --resume, or remove that folder."
        )
    if resume and not folder.exists():
        raise RecorderError(f"There is no interrupted recording {folder}. Leave --resume out to begin one.")
    folder.mkdir(parents=True, exist_ok=True)


def _read_kept(file: Path) -> list[Kept]:
    """Whole lines; one that a crash cut short is taken off the file."""
    if not file.exists():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(file, len(whole))
    try:
        return [msgspec.json.decode(line, type=Kept) for line in whole.splitlines()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecorderError(f"{file} is damaged ({error}). Restore it, or remove its folder to begin anew.") from error
