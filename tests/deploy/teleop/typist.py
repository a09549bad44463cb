"""A person at a terminal, for tests."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable


class Typist:
    """`robot-rl` on a pseudo-terminal."""

    def __init__(self, *words: object) -> None:
        self.master, slave = pty.openpty()
        command = [sys.executable, "-P", "-m", "robot_rl.cli", *map(str, words)]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.said = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character

    def until(self, pattern: str) -> None:
        """Read until it says so."""
        deadline = time.monotonic() + 90
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, self.said
            self.look()
            assert self.process.poll() is None or re.search(pattern, self.said), self.said
        self.said = re.split(pattern, self.said, maxsplit=1)[1]

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Read on until it holds."""
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            self.look()

    def end(self) -> int:
        while self.process.poll() is None:
            self.look()
        self.look()
        os.close(self.master)
        return self.process.returncode

    def look(self) -> None:
        if select.select([self.master], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # the other end is gone
                self.said += self._decoder.decode(os.read(self.master, 65536)).replace("\r\n", "\n")
