"""What ends a loop between its steps instead of inside one: Ctrl-C, and the end of whoever started the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

LOOK_S = 0.5  # between two looks at whether the parent lives


@contextmanager
def interrupt_sets(stop: threading.Event) -> Generator[None]:
    """While open, Ctrl-C sets `stop`; a second one interrupts as usual. Other threads are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def orphaned_sets(stop: threading.Event, parent: int) -> None:
    """From now on `stop` is set once `parent`, the process that started this one, is gone, however it ended."""

    def look() -> None:
        while os.getppid() == parent:
            if stop.wait(LOOK_S):
                return
        stop.set()

    threading.Thread(target=look, name="orphaned", daemon=True).start()
