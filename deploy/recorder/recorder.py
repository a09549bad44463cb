"""Keeps a session: the tick hands over copies, a thread of its own encodes and writes them.

The file is append-only and unchunked. Whatever the thread has written is flushed to the operating system
before it waits again, so `kill -9` loses at most what was still queued, some milliseconds; once a second it
is synchronised to the disk, for power losses. A queue that runs full is an error, never a silent gap.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from mcap.writer import IndexType, Writer
from numpy.typing import NDArray

from deploy.bundle.contract import Contract
from deploy.recorder.channels import Channels
from deploy.safety.decision import Decision, Finding
from robot_rl.data.session import (
    ASKED,
    DECISION,
    EPISODE,
    EXECUTED,
    FORMAT_VERSION,
    METADATA,
    OBSERVATION,
    POLICY,
    REWARD,
    TIMING,
    split,
)
from robot_rl.errors import RecorderError
from robot_rl.spec import Array, Spec

PARTS = ("read", "policy", "supervise", "command")
QUEUE_LIMIT = 20_000  # messages; tens of seconds at any rate
SYNC_S = 1.0
BUFFER = 1 << 20  # bytes


class Recorder:
    """A session being written; used as a context.

    Args:
        path: File to create; it must not exist.
        spec: What observations and actions mean.
        contract: Of the policy that acts first.
        arm: Text of the arm's file.
        env_id: Environment of a simulated arm, where it is not its file's.
        wait: Where the queue is full, wait instead of failing: for loops without a clock.
        queue_limit: Messages that may wait to be written.

    Raises:
        RecorderError: If the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        spec: Spec,
        contract: Contract,
        *,
        arm: str = "",
        env_id: str = "",
        wait: bool = False,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self.path, self._wait = path, wait
        self._spec, self._limit = spec, queue_limit
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False: the end
        self._error: Exception | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=BUFFER)
            self._writer = Writer(self._file, use_chunking=False, index_types=IndexType.METADATA)
            self._writer.start(profile="robot_rl")
            facts = {
                "format_version": str(FORMAT_VERSION),
                "spec": json.dumps(spec.to_dict()),
                "contract": contract.to_json(),
                "arm": arm,
                "env": env_id,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            self._writer.add_metadata(METADATA, facts)
            self._channels = Channels(self._writer, spec, PARTS)
            self._file.flush()
        except OSError as error:
            raise RecorderError(
                f"Cannot record to {path}: {error.strerror}. Choose another --record folder."
            ) from error
        self._thread = threading.Thread(target=self._write_until_end, name="recorder", daemon=True)
        self._thread.start()
        self.policy(contract, 0)

    def tick(
        self, tick: int, obs: Array | None, asked: NDArray[Any], decision: Decision, times_ns: NDArray[Any]
    ) -> None:
        """One tick, see `deploy.control.plan.SessionLog`.

        Raises:
            RecorderError: If writing failed or falls behind; the session must end.
        """
        self._hand_over(
            (
                self._write_tick,
                tick,
                time.time_ns(),
                None if obs is None else obs.copy(),
                asked.copy(),
                decision.command.copy(),
                decision,
                times_ns.copy(),
            )
        )

    def reward(self, tick: int, reward: float) -> None:
        """What the tick brought."""
        self._hand_over((self._write_reward, tick, time.time_ns(), reward))

    def begin(self, episode: int, tick: int, seed: int | None = None) -> None:
        """An episode starts with this tick."""
        facts = {"event": "begin", "episode": episode} | ({} if seed is None else {"seed": seed})
        self._hand_over((self._channels.put, EPISODE, tick, time.time_ns(), facts))

    def end(self, tick: int, obs: Array, *, terminated: bool, success: bool | None) -> None:
        """The episode is over with this tick; `obs` is what follows it."""
        facts = {"event": "end", "terminated": terminated, "final": split(self._spec.observation, obs.tolist())}
        if success is not None:
            facts["success"] = success
        self._hand_over((self._channels.put, EPISODE, tick, time.time_ns(), facts))

    @property
    def thread_id(self) -> int | None:
        """Native id of the thread that writes."""
        return self._thread.native_id

    def flush(self) -> None:
        """Let the thread write what has been handed over. Called between ticks: waking it costs the caller."""
        self._wake.put(True)

    def policy(self, contract: Contract, tick: int) -> None:
        """From this tick on, these weights act."""
        facts = {"run": contract.run, "algorithm": contract.algorithm, "weight_version": contract.weight_version}
        self._hand_over((self._channels.put, POLICY, tick, time.time_ns(), facts))

    def close(self) -> None:
        """Write what is queued and the summary; a second call changes nothing.

        Raises:
            RecorderError: If writing failed.
        """
        if self._file.closed:
            return
        self._wake.put(False)
        self._thread.join()
        if self._error is None:
            self._attempt(self._writer.finish)
        self._attempt(self._file.close)  # it writes what a full disk did not take, again
        self._raise_error()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hand_over(self, item: tuple[Any, ...]) -> None:
        if self._error is not None:
            self._raise_error()
        if len(self._waiting) >= self._limit:
            self._overflow()
        self._waiting.append(item)

    def _overflow(self) -> None:
        if not self._wait:
            raise RecorderError(
                f"{self.path}: {self._limit:,} messages wait to be written; the disk or the processor is too slow. "
                f"Record to a faster disk, or serve with --no-record."
            )
        self.flush()
        while len(self._waiting) >= self._limit and self._error is None:
            time.sleep(0.001)

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self._error = self._error or error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RecorderError(f"{self.path}: writing failed ({self._error}). Free the disk, then serve again.")

    def _write_until_end(self) -> None:
        synced = time.monotonic()
        try:
            more = True
            while more:
                more = self._wake.get()
                while self._waiting:
                    write, *content = self._waiting.popleft()
                    write(*content)
                self._file.flush()
                if time.monotonic() - synced > SYNC_S:
                    os.fdatasync(self._file.fileno())
                    synced = time.monotonic()
        except (OSError, ValueError, TypeError) as error:  # handed to the tick, which ends the session
            self._error = error

    def _write_tick(  # noqa: PLR0917 - the queue holds positional arguments
        self,
        tick: int,
        time_ns: int,
        obs: Array | None,
        asked: NDArray[Any],
        executed: NDArray[Any],
        decision: Decision,
        times_ns: NDArray[Any],
    ) -> None:
        put, spec = self._channels.put, self._spec
        if obs is not None:
            put(OBSERVATION, tick, time_ns, split(spec.observation, obs.tolist()))
        put(ASKED, tick, time_ns, split(spec.action, asked.tolist()))
        put(EXECUTED, tick, time_ns, split(spec.action, executed.tolist()))
        findings = [_plain(f) for f in decision.findings]
        put(DECISION, tick, time_ns, {"verdict": decision.verdict.value, "findings": findings})
        start, deadline, *ends = times_ns.tolist()
        parts = {"start_s": start / 1e9, "late_us": (start - deadline) / 1e3}
        for part, end in zip(PARTS, ends, strict=False):  # what follows is not over yet
            parts[f"{part}_us"], start = (end - start) / 1e3, end
        put(TIMING, tick, time_ns, parts)

    def _write_reward(self, tick: int, time_ns: int, reward: float) -> None:
        self._channels.put(REWARD, tick, time_ns, {"reward": reward})


def session_file(folder: Path, arm: str, run: str) -> Path:
    """A new file name for a session that starts now."""
    stamp = datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    name = f"{stamp}_{arm}_{run}"
    taken = 0
    while (file := folder / f"{name}{f'_{taken}' if taken else ''}.mcap").exists():
        taken += 1
    return file


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "reason": finding.reason.value,
        "where": finding.where,
        "asked": finding.asked,
        "limit": finding.limit,
    }
