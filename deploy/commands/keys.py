"""`robot-rl keys new|allow|revoke|list`: who may talk to learners and policy servers beyond this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from deploy.network.keys import DEFAULT_FOLDER, KeyFolder
from robot_rl.config import nearest, parse
from robot_rl.console import make_console, print_json
from robot_rl.errors import ConfigError

NEW_HELP = """Make a key pair for this machine and print its public key, which the other machine has to allow.

    learner$ robot-rl keys new learner        robot$ robot-rl keys new arm-1
    robot$   robot-rl keys allow learner KEY  learner$ robot-rl keys allow arm-1 KEY"""
ALLOW_HELP = "Talk to the machine with this public key. A running learner or policy server lets it in at once."
REVOKE_HELP = "No longer talk to a machine. What it sends from now on is ignored, also by what runs already."
LIST_HELP = "Print this machine's public keys and those it talks to."


@dataclass(frozen=True, kw_only=True)
class NameConfig:
    """One key."""

    name: tyro.conf.Positional[str]  # of the key, for people
    keys: Path = DEFAULT_FOLDER  # folder of keys
    json: bool = False  # one JSON object on standard output


@dataclass(frozen=True, kw_only=True)
class AllowConfig:
    """A peer and its public key."""

    name: tyro.conf.Positional[str]  # to call it by
    public: tyro.conf.Positional[str]  # its public key, 40 characters; put it in quotes
    keys: Path = DEFAULT_FOLDER  # folder of keys
    json: bool = False  # one JSON object on standard output


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """All keys."""

    keys: Path = DEFAULT_FOLDER  # folder of keys
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Find the sub-command and run it."""
    verbs: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
        "new": (new, NEW_HELP),
        "allow": (allow, ALLOW_HELP),
        "revoke": (revoke, REVOKE_HELP),
        "list": (list_, LIST_HELP),
    }
    if not argv or argv[0] in ("-h", "--help"):
        out = make_console()
        out.print("usage: robot-rl keys new|allow|revoke|list [options]\n", markup=False)
        for name, (_, text) in verbs.items():
            out.print(f"  [cyan]{name:<8}[/] {text.splitlines()[0]}")
        return 0 if argv else 2
    if argv[0] not in verbs:
        raise ConfigError(f"No command 'keys {argv[0]}'.{nearest(argv[0], verbs)}")
    return verbs[argv[0]][0](argv[1:])


def new(argv: Sequence[str]) -> int:
    """`robot-rl keys new NAME`."""
    config = parse(NameConfig, argv, prog="robot-rl keys new", description=NEW_HELP)
    public = KeyFolder(config.keys).new(config.name)
    note = f"The secret stays in {config.keys}/own. On the other machine: robot-rl keys allow {config.name} '{public}'"
    _answer({"name": config.name, "public": public}, f"{public}\n{note}", as_json=config.json)
    return 0


def allow(argv: Sequence[str]) -> int:
    """`robot-rl keys allow NAME KEY`."""
    config = parse(AllowConfig, argv, prog="robot-rl keys allow", description=ALLOW_HELP)
    KeyFolder(config.keys).allow(config.name, config.public)
    _answer({"allowed": config.name}, f"{config.name} is allowed.", as_json=config.json)
    return 0


def revoke(argv: Sequence[str]) -> int:
    """`robot-rl keys revoke NAME`."""
    config = parse(NameConfig, argv, prog="robot-rl keys revoke", description=REVOKE_HELP)
    KeyFolder(config.keys).revoke(config.name)
    _answer({"revoked": config.name}, f"{config.name} is no longer allowed.", as_json=config.json)
    return 0


def list_(argv: Sequence[str]) -> int:
    """`robot-rl keys list`."""
    config = parse(ListConfig, argv, prog="robot-rl keys list", description=LIST_HELP)
    folder = KeyFolder(config.keys)
    own = folder.own()
    allowed = {name: public for public, name in folder.allowed().items()}
    lines = [f"own      {name:<16} {public}" for name, public in own.items()]
    lines += [f"allowed  {name:<16} {public}" for name, public in allowed.items()]
    nothing = f"No keys in {config.keys}. Make one: robot-rl keys new NAME"
    _answer({"own": own, "allowed": allowed}, "\n".join(lines) or nothing, as_json=config.json)
    return 0


def _answer(facts: dict[str, object], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        make_console().print(text, markup=False, soft_wrap=True)
