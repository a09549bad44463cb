"""What the operating system can do for a steady tick, where it lets us: said in words, never required."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

MLOCK_CURRENT, MLOCK_FUTURE = 1, 2
PRIORITY = 40  # of 1 to 99; below the kernel's own threads, which start at 50


@dataclass(frozen=True, kw_only=True)
class RealtimePlan:
    """What to ask for.

    Args:
        fifo: SCHED_FIFO scheduling: no other ordinary process takes the core away.
        lock_memory: Keep all pages in memory.
        core: Core to stay on; None for any.
    """

    fifo: bool = False
    lock_memory: bool = False
    core: int | None = None


@contextmanager
def realtime(plan: RealtimePlan, helper: int | None = None) -> Generator[list[str]]:
    """Ask for it, yield what became of each wish, and give everything back.

    Args:
        plan: The wishes, for the calling thread.
        helper: Native id of a thread that shares Python's lock with it, such as the recorder's: it gets the next
            lower priority, or an ordinary process could keep it, and so the lock, from running.
    """
    said: list[str] = []
    cores = os.sched_getaffinity(0)
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    if plan.core is not None:
        said.append(_try(f"core {plan.core}", lambda: os.sched_setaffinity(0, {plan.core or 0})))
    if plan.lock_memory:
        said.append(_try("memory locked", lambda: _mlockall(MLOCK_CURRENT | MLOCK_FUTURE)))
    if plan.fifo:
        wish = os.sched_param(PRIORITY)
        said.append(
            _try(
                f"SCHED_FIFO {PRIORITY}", lambda: os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, wish)
            )
        )
        if helper is not None:
            below = os.sched_param(PRIORITY - 1)
            flags = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            said.append(
                _try(f"recorder SCHED_FIFO {PRIORITY - 1}", lambda: os.sched_setscheduler(helper, flags, below))
            )
    try:
        yield said
    finally:
        if plan.fifo:
            _leave_fifo(policy, parameter)
        os.sched_setaffinity(0, cores)
        if plan.lock_memory:
            ctypes.CDLL(None).munlockall()


def _leave_fifo(policy: int, parameter: os.sched_param) -> None:
    """Back to what was. Without CAP_SYS_NICE, with a limit on real-time priority alone, RESET_ON_FORK stays set."""
    try:
        os.sched_setscheduler(0, policy, parameter)
    except PermissionError:
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, parameter)


def _try(what: str, ask: Callable[[], object]) -> str:
    try:
        ask()
    except OSError as error:
        return f"{what}: refused ({error.strerror})"
    return f"{what}: yes"


def _mlockall(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
