"""The processes that `robot-rl bench chaos` kills: an actor that publishes numbers, a learner that stores. No torch.

Both note how far they are in a mapped file of 8 bytes, which survives them. Signals: TERM ends cleanly (the
actor delivers what it has first), USR1 fills the disk, USR2 frees it, HUP makes the wall clock jump.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bench.made import made_spec
from deploy.bridge.actor import ActorLink
from deploy.bridge.learner import LearnerHub
from deploy.bridge.spool import SpoolOptions
from robot_rl.data.replay_log import ReplayLog
from robot_rl.errors import BridgeError

SPEC = made_spec(3, 2)
DRAIN_S = 60.0
NOTE = struct.Struct("<Q")


class Noted:
    """A number that outlives the process that writes it.

    Args:
        file: Created if missing.
    """

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(bytes(NOTE.size))
        with file.open("r+b") as handle:
            self._map = mmap.mmap(handle.fileno(), NOTE.size)

    @property
    def value(self) -> int:
        """The number."""
        return NOTE.unpack_from(self._map)[0]

    @value.setter
    def value(self, number: int) -> None:
        NOTE.pack_into(self._map, 0, number)


def main() -> int:
    """Be what the JSON object in the first argument says."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGUSR1, lambda *_: _limit_files(plan["full_at"]))
    signal.signal(signal.SIGUSR2, lambda *_: _limit_files(resource.RLIM_INFINITY))
    signal.signal(signal.SIGHUP, lambda *_: _jump())
    parent = os.getppid()
    orphan = threading.Thread(target=_end_with, args=(parent,), daemon=True)
    orphan.start()
    return (_act if plan["role"] == "actor" else _learn)(plan, ending)


def _act(plan: dict[str, Any], ending: threading.Event) -> int:
    """Transition i of a session has reward i and observations made from i."""
    taken, felt = Noted(Path(plan["noted"])), Noted(Path(plan["felt"]))
    options = SpoolOptions(segment_bytes=plan["segment_bytes"])
    link = ActorLink(plan["address"], Path(plan["spool"]), SPEC, options=options, heartbeat_s=0.1)
    if link.taken < taken.value:
        sys.stderr.write(f"{taken.value} transitions were taken, the spool has {link.taken}\n")
        return 3
    action, period, due = np.zeros(2, np.float32), 1 / plan["rate_hz"], time.perf_counter()
    while not ending.is_set():
        due = max(due + period, time.perf_counter() - 0.1)
        time.sleep(max(0.0, due - time.perf_counter()))
        i = link.taken
        try:
            link.publish(np.full(3, i, np.float32), action, float(i), np.full(3, i + 1, np.float32))
        except BridgeError:  # the arm holds; here it tries again
            felt.value += 1
            ending.wait(0.02)
            continue
        taken.value = i + 1
    delivered = link.drain(DRAIN_S)
    link.close()
    return 0 if delivered else 4


def _learn(plan: dict[str, Any], ending: threading.Event) -> int:
    stored, felt = Noted(Path(plan["noted"])), Noted(Path(plan["felt"]))
    log = ReplayLog(Path(plan["log"]), SPEC, sync_ms=20, segment_bytes=plan["segment_bytes"])
    hub = LearnerHub(plan["address"], log)
    while not ending.wait(0.002):
        stored.value = log.durable
        felt.value = hub.counters.get("not_stored", 0)
        if hub.failure:
            return 5
    hub.close()
    log.close()
    return 0


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _jump() -> None:
    """Make this process's wall clock leap a random way; nothing of the bridge may look at it."""
    offset = random.uniform(-1e9, 1e9)  # noqa: S311 - a fault, not a secret
    real = time.clock_gettime
    time.time = lambda: real(time.CLOCK_REALTIME) + offset
    time.time_ns = lambda: int((real(time.CLOCK_REALTIME) + offset) * 1e9)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
