"""The console command `robot-rl`: finds the verb, runs it, turns errors into exit statuses.

Verbs live in the packages that do the work and register in the entry-point group
`robot_rl.commands`; only the chosen one is imported, so `robot-rl --help` answers at once.

Exit status: 0 done; 2 something the user can mend; 1 a fault of ours; 130 interrupted; 141 where
whoever read our output has gone, as `| head` does.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TextIO

from robot_rl.config import nearest
from robot_rl.console import make_console
from robot_rl.errors import ConfigError, RobotRLError
from robot_rl.registered import load, registered

UNREAD = 128 + signal.SIGPIPE  # what a shell says of a program whose output nobody reads
MENDABLE = {  # of a path: what whoever gave it, or owns it, can do something about
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EROFS, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip
SUMMARIES = {
    "data": "import logs, look at a dataset, check its health",
    "record": "make demonstrations with a scripted expert in simulation",
    "teleoperate": "drive an environment or an arm by hand; records nothing",
    "locomotion": "make logs of named quality with agents of our own: HalfCheetah, Hopper, dmc/...",
    "world-model": "learn to predict the robot from its logs, with a report",
    "pretrain": "train offline: bc, td3-bc, awac, iql, sac, dqn, or a teacher of several tasks",
    "success-classifier": "learn from labelled episodes what success looks like, as a reward",
    "finetune": "fine-tune online: learner and actors, or in turns",
    "learner": "learn from what actors deliver over the bridge",
    "actor": "step an environment for a learner",
    "evaluate": "roll a policy out: return and success with intervals",
    "export": "write the ONNX bundle: contract and parity certificate inside",
    "serve": "run a bundle on an arm at control rate, behind the supervisor",
    "keys": "who may talk over the bridge beyond this machine: new, allow, revoke, list",
    "arm": "connect to an arm and check it against its file; moves nothing",
    "operator": "stop, arm again, or keep alive a served arm, over its socket",
    "replay": "explain a recorded session, clamp by clamp, and play it back",
    "bench": "measurements: speed, learners offline and online, small data",
    "demo": "the whole road, logs to served policy, in a few minutes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    try:
        status = _answer(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        if not _left_unread():
            raise
        return UNREAD
    return status


def _answer(words: list[str]) -> int:
    """Run one command line and say what went wrong."""
    console = make_console(stderr=True)
    try:
        return _dispatch(words)
    except RobotRLError as error:
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False)
        return 2
    except KeyboardInterrupt as stop:
        console.print(f"Interrupted: {stop}." if str(stop) else "Interrupted.")
        return 130
    except SystemExit as stop:  # tyro: 0 after --help, 2 on a wrong command line
        return stop.code if isinstance(stop.code, int) else 2
    except Exception as error:  # the last line of defence: report it as our fault
        if words_for := _of_the_system(error):
            console.print(words_for, markup=False)
            return 2
        if isinstance(error, BrokenPipeError) and any(map(_is_unread, (sys.stdout, sys.stderr))):
            raise
        traceback.print_exc()
        console.print("[bold red]This is a fault of robot-rl, not yours.[/] Please report the lines above.")
        return 1


def _of_the_system(error: Exception) -> str:
    """What to say of a disk that is full or a path that cannot be used; nothing for all other errors."""
    if not isinstance(error, OSError):
        return ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error}. Free disk space; a run that was cut goes on with --resume."
    if error.errno not in MENDABLE:
        return ""
    what = error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    return f"{type(error).__name__}: {what}."  # HDF5 names the file in its words


def _left_unread() -> bool:
    """Whether the reader of our output has gone, as `| head` does; what would still be written then goes nowhere."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
    for stream in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(gone)


def _is_unread(stream: TextIO) -> bool:
    watch = select.poll()
    try:
        watch.register(stream, 0)  # nothing asked for: a broken pipe is told in any case
    except (OSError, ValueError):  # no file behind it
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))


def _dispatch(words: list[str]) -> int:
    verbs = registered("robot_rl.commands")
    if not words or words[0] in ("-h", "--help"):
        _print_help(verbs)
        return 0 if words else 2
    _check_install()
    if words[0] not in verbs:
        raise ConfigError(f"Unknown command '{words[0]}'.{nearest(words[0], verbs)}")
    return int(load(verbs[words[0]])(words[1:]) or 0)


def _print_help(verbs: dict[str, EntryPoint]) -> None:
    out = make_console()
    out.print("[bold]robot-rl[/]: from teleop logs to a policy running on the arm\n")
    out.print("usage: robot-rl COMMAND [options]; `robot-rl COMMAND --help` explains each\n", markup=False)
    order = [v for v in SUMMARIES if v in verbs] + sorted(set(verbs) - set(SUMMARIES))
    for verb in order:
        out.print(f"  [cyan]{verb:<18}[/] {SUMMARIES.get(verb, '')}")
    out.print("\nexit status: 0 done, 2 you can mend it, 1 our fault")


def _check_install() -> None:
    """Refuse to run when another package called `sim` or `deploy` shadows ours."""
    here = Path(__file__).resolve().parents[1]
    for name in ("sim", "deploy"):
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or origin.parents[1] != here:
            raise RobotRLError(
                f"Python finds package '{name}' at {origin}, not beside robot_rl in {here}. Another "
                f"installed package has the same name: use a fresh virtual environment."
            )


if __name__ == "__main__":
    sys.exit(main())
