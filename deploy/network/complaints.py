"""What came in and was wrong: counted always, logged seldom enough to be read."""

from __future__ import annotations

import logging
import time
from collections import Counter

REPORT_S = 10.0  # between two lines in the log about one kind


class Complaints:
    """Counts messages that were ignored or refused, by kind.

    Args:
        counters: Where they are counted; others may count there too.
        log: Gets a line about a kind at most every 10 s.
    """

    def __init__(self, counters: Counter[str], log: logging.Logger) -> None:
        self._counters, self._log = counters, log
        self._reported: dict[str, float] = {}

    def add(self, kind: str, text: str) -> None:
        """One more of `kind`; `text` says what was wrong with this one."""
        self._counters[kind] += 1
        now = time.monotonic()
        if now - self._reported.get(kind, float("-inf")) > REPORT_S:
            self._reported[kind] = now
            self._log.warning("refused (%s): %s; %d so far", kind, text, self._counters[kind])
