"""A thread that acts when a tick takes too long: a policy or a driver that hangs cannot hold the arm itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

_log = logging.getLogger(__name__)

LOOKS = 4  # in each timeout


class Watchdog:
    """Calls `bite` once when `kick` has not been called for `timeout_s`; used as a context.

    Args:
        timeout_s: Longest allowed silence, s; 0 for a watchdog that sleeps for ever.
        bite: Called in the watchdog's thread with the silence so far, s.
    """

    def __init__(self, timeout_s: float, bite: Callable[[float], None]) -> None:
        self._timeout, self._bite = timeout_s, bite
        self._kicked = 0.0
        self._awake = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def kick(self) -> None:
        """Still alive; wakes the watchdog where it slept."""
        self._kicked = time.monotonic()
        self._awake = True

    def sleep(self) -> None:
        """Something long is about to happen on purpose, until the next kick."""
        self._awake = False

    def __enter__(self) -> Watchdog:
        if self._timeout > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._timeout > 0:
            self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._timeout / LOOKS):
            silence = time.monotonic() - self._kicked
            if self._awake and silence > self._timeout * (1 - 1 / LOOKS):
                self._awake = False
                try:
                    self._bite(silence)
                except Exception:  # a driver that cannot hold now: whoever arms again is to be watched again
                    _log.exception("the watchdog could not hold the arm")
