"""The operator's station: stop, arm again and signs of life, from keys, signals and a socket.

    keys      s or space: emergency stop     a: arm again     q: end
              g: the scene is set, go     y, n: the episode succeeded, failed
    signals   SIGUSR1: emergency stop        SIGTERM, SIGINT, SIGHUP: come to rest and end
    socket    lines `stop`, `arm`, `go`, `success`, `failure`, `beat`, `end`, `status` on a Unix socket that only
              this user can open

Whatever the source, it only sets flags here; the control loop looks at them once a tick.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path

from deploy.operator.terminal import HearFn, listening
from robot_rl.errors import ConfigError, RobotRLError

POLL_S = 0.1  # longest time until a thread here notices the end
LONGEST_PATH = 100  # bytes; the system's limit is 108


WORDS = ("stop", "arm", "go", "success", "failure", "beat", "end", "status")


class Station:
    """What the operator wants. Every method is callable from any thread and from signal handlers."""

    def __init__(self) -> None:
        self.stop_cause = ""  # what pressed the emergency stop; empty while nobody has
        self.wants_arm = False
        self.ready = False  # the scene is set for the next episode
        self.label: bool | None = None  # of the running episode: succeeded, failed
        self.ending = threading.Event()
        self.status = "starting"  # for those who ask; written by the control loop
        self._last_beat = -math.inf

    def press(self, cause: str) -> None:
        """Emergency stop; stays until `released`."""
        self.wants_arm = False
        self.stop_cause = self.stop_cause or cause

    def ask_to_arm(self) -> None:
        """Release the stop at the loop's next tick, if the arm may be armed then."""
        self.wants_arm = True
        self.beat()

    def released(self) -> None:
        """The word to arm is being followed: whoever does so says it first, so that no later stop is forgotten."""
        self.stop_cause, self.wants_arm = "", False

    def go(self) -> None:
        """The scene is set: the next episode may begin."""
        self.ready = True
        self.beat()

    def judge(self, *, success: bool) -> None:
        """The running episode has succeeded, or failed."""
        self.label = success
        self.beat()

    def take_label(self) -> bool | None:
        """The operator's judgement since the last look; None without."""
        label, self.label = self.label, None
        return label

    def beat(self) -> None:
        """A sign of life."""
        self._last_beat = time.monotonic()

    def silence_s(self, now_s: float) -> float:
        """Time since the last sign of life, s; infinite before the first."""
        return now_s - self._last_beat

    def hear(self, key: str) -> None:
        """A key was pressed, whatever it means."""
        self.beat()
        match key:
            case "s" | "S" | "space":  # capitals turn a tool by hand: Caps Lock may be on
                self.press("key")
            case "a":
                self.ask_to_arm()
            case "g":
                self.go()
            case "y" | "n":
                self.judge(success=key == "y")
            case "q":
                self.ending.set()
            case _:
                pass

    def obey(self, line: str) -> str:
        """Carry out one line of the socket's language; returns the answer."""
        match line.strip():
            case "stop":
                self.press("socket")
            case "arm":
                self.ask_to_arm()
            case "go":
                self.go()
            case "success" | "failure" as word:
                self.judge(success=word == "success")
            case "beat":
                self.beat()
            case "end":
                self.ending.set()
            case "status":
                return self.status
            case other:
                return f"unknown '{other[:20]}'; known: {', '.join(WORDS)}"
        return "ok"


@contextlib.contextmanager
def signals(station: Station) -> Generator[None]:
    """SIGUSR1 stops, SIGTERM and SIGHUP end, while open; in other threads than the main one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, lambda *_: station.press("signal SIGUSR1")),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: station.ending.set()),
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda *_: station.ending.set()),  # the terminal is gone
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def keys(station: Station, also: HearFn = lambda _key: None) -> Generator[None]:
    """Listen to the keyboard while open, and pass each key on to `also`; does nothing where there is no terminal."""

    def hear(key: str) -> None:
        station.hear(key)
        also(key)

    with listening(hear, gone=station.ending.set):  # without a terminal nobody could press a key any more
        yield


@contextlib.contextmanager
def socket_at(station: Station, path: Path | None) -> Generator[None]:
    """Listen on a Unix socket while open; None for no socket.

    Raises:
        ConfigError: If the path is too long or something is there already.
    """
    if path is None:
        yield
        return
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ConfigError(f"The operator's socket {path} has a path of over {LONGEST_PATH} bytes. Use a shorter one.")
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(str(path))
        except OSError as error:
            raise ConfigError(
                f"Cannot open the operator's socket {path}: {error}. Remove it or use another."
            ) from error
        path.chmod(0o600)
        server.listen(4)
        end = threading.Event()
        thread = threading.Thread(target=_answer, args=(station, server, end), name="operator", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            path.unlink(missing_ok=True)


def tell(path: Path, line: str, timeout_s: float = 1.0) -> str:
    """Send one line to a station's socket; returns its answer.

    Raises:
        RobotRLError: If nobody answers there.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(line.encode() + b"\n")
            return client.recv(4096).decode().strip()
    except OSError as error:
        raise RobotRLError(
            f"Nobody answers at {path}: {error}. Is `robot-rl serve --socket {path}` running?"
        ) from error


def _answer(station: Station, server: socket.socket, end: threading.Event) -> None:
    server.settimeout(POLL_S)
    while not end.is_set():
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        except OSError:  # no descriptors left, say: the way to stop an arm outlives it
            end.wait(POLL_S)
            continue
        with client, contextlib.suppress(OSError, UnicodeDecodeError):  # a client that hangs or breaks off
            client.settimeout(POLL_S)
            lines = client.recv(256).decode().splitlines() or [""]
            client.sendall("".join(f"{station.obey(line)}\n" for line in lines).encode())
