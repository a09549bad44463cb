"""Keys of a terminal as names, also over ssh: "right", "left", "esc", "space", "tab", or the character itself."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Generator
from typing import Any

POLL_S = 0.1  # longest time until the listener notices the end
ESCAPE_S = 0.05  # an arrow's bytes follow each other faster; a person's Esc stands alone

HearFn = Callable[[str], None]

_ARROWS = {b"C": "right", b"D": "left", b"A": "up", b"B": "down"}
_NAMES = {
    **{b"\x1b[" + letter: name for letter, name in _ARROWS.items()},
    **{b"\x1bO" + letter: name for letter, name in _ARROWS.items()},  # application mode
    b"\x1b": "esc",
    b" ": "space",
    b"\t": "tab",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
}


class KeyDecoder:
    """Bytes of a terminal to names of keys; keeps what may be the beginning of an arrow."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def waits(self) -> bool:
        """Whether more bytes decide what was pressed."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """Keys that are whole."""
        block, self._rest = self._rest + data, b""
        found: list[str] = []
        while block:
            size = _size(block)
            if size == 0:
                self._rest = block
                break
            name = _NAMES.get(block[:size], block[:size].decode("latin-1") if size == 1 else "")
            if name:
                found.append(name)
            block = block[size:]
        return found

    def flush(self) -> list[str]:
        """What was kept, now that nothing followed."""
        rest, self._rest = self._rest, b""
        return ["esc"] if rest == b"\x1b" else []


def _size(block: bytes) -> int:
    """Length of the first key, bytes, 0 where its end is still to come; F-keys and such are taken whole."""
    if block == b"\x1b":
        return 0
    if block[:1] != b"\x1b" or block[1:2] not in (b"[", b"O"):
        return 1
    return next((i + 1 for i in range(2, len(block)) if 0x40 <= block[i] <= 0x7E), 0)


@contextlib.contextmanager
def listening(hear: HearFn, gone: Callable[[], object] = lambda: None) -> Generator[bool]:
    """Pass each key to `hear`, from a thread, while open; yields False where there is no terminal.

    Args:
        hear: Told each key's name.
        gone: Told that the terminal went away, such as when ssh broke off.
    """
    if not sys.stdin.isatty():
        yield False
        return
    terminal = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(terminal)
    end = threading.Event()
    thread = threading.Thread(target=_listen, args=(hear, gone, terminal, end), name="keys", daemon=True)
    tty.setcbreak(terminal)
    thread.start()
    try:
        yield True
    finally:
        end.set()
        thread.join()
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _listen(hear: HearFn, gone: Callable[[], object], terminal: int, end: threading.Event) -> None:
    decoder = KeyDecoder()
    while not end.is_set():
        ready, _, _ = select.select([terminal], [], [], ESCAPE_S if decoder.waits else POLL_S)
        try:
            data = os.read(terminal, 256) if ready else b""
        except OSError:
            data = b""
        if ready and not data:
            gone()
            return
        for key in decoder.feed(data) if data else decoder.flush():
            hear(key)
