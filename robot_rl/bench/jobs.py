"""Running a bench's jobs: the commands that a user types, in processes of their own, some at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from robot_rl.console import progress_bar
from robot_rl.data.durable import FolderLock
from robot_rl.errors import RobotRLError


def run_jobs(name: str, jobs: Mapping[str, Callable[[], None]], *, at_once: int, quiet: bool = False) -> None:
    """Run every job; the first error ends the bench once the running ones are through.

    Args:
        name: Of the bench, for the progress bar.
        jobs: Each by a name for the progress bar; mostly waiting for a process.
        at_once: How many at a time.
        quiet: No progress bar.
    """
    with progress_bar(hidden=quiet) as bar, ThreadPoolExecutor(at_once) as pool:
        task = bar.add_task(name, total=len(jobs), note="")
        running = {pool.submit(job): label for label, job in jobs.items()}
        try:
            for done in as_completed(running):
                done.result()
                bar.update(task, advance=1, note=running[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def robot_rl(words: Sequence[str], lock: FolderLock | None = None) -> str:
    """Standard output of `robot-rl WORDS`.

    Args:
        words: Verb and options.
        lock: Of the folder that it writes into: it goes on having it if the bench is killed, so that no other one
            begins there beside it.

    Raises:
        RobotRLError: If it fails, with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", "robot_rl.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        pass_fds=() if lock is None else (lock.descriptor,),
    )
    if done.returncode:
        raise RobotRLError(f"`robot-rl {' '.join(words)}` ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
