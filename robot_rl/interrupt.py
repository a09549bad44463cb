"""Ctrl-C that ends a loop between its steps instead of inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


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
