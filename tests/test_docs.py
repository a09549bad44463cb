"""What the README and the how-tos tell people to type is what the commands take."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tyro

from robot_rl.cli import main

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "README.md"
PAGES = [ROOT / "README.md", TABLE, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.yaml"))]


class Taken(BaseException):
    """The command line was taken; nothing is to be run."""


def _commands(page: Path) -> Iterator[str]:
    """Whole commands: in a page's code blocks, in the table of benchmarks, in the comments of an example file."""
    text = page.read_text()
    if page.suffix == ".yaml":
        shells = [text.replace("\n#", "\n")]
    else:
        shells = re.findall(r"`([^`]*)`" if page == TABLE else r"```sh\n(.*?)```", text, re.DOTALL)
    for shell in shells:
        one_each = re.sub(r"(?<=\w)(\|\w+)+", "", shell.replace("\\\n", " "))  # of a|b|c the first
        for line in one_each.splitlines():
            yield from (found.strip() for found in re.findall(r"(?:^|; |do |\s)(robot-rl \w[^#;|&>]*)", line))


def _words(command: str) -> list[str]:
    needed = re.sub(r"\s\[[^]]*\]", "", command)
    words = shlex.split(re.sub(r"\$\{?\w+[^}\s]*\}?", "1", needed))[1:]  # the shell's variables filled in
    if "--start" in words:  # read before the rest is looked at
        del words[words.index("--start") : words.index("--start") + 2]
    return [str(ROOT / word) if (ROOT / word).is_file() else word for word in words]


def _of_readers(command: str) -> bool:
    """Whether it names a file of options that is the reader's own, so that it can't be read here."""
    return any(not (ROOT / file).is_file() for file in re.findall(r"--config (\S+)", command))


COMMANDS = [(page, command) for page in PAGES for command in _commands(page) if not _of_readers(command)]


def test_commands_are_found() -> None:
    names = {page.name for page, _ in COMMANDS}
    assert names >= {"README.md", "pretrain.md", "fine_tune.md", "small_data_finetune.yaml"}
    assert len(COMMANDS) > 100


@pytest.mark.parametrize("command", [c for _, c in COMMANDS], ids=[f"{p.name}:{c[9:50]}" for p, c in COMMANDS])
def test_a_command_of_the_docs_is_taken(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taking = tyro.cli

    def take(*args: Any, **kwargs: Any) -> NoReturn:
        taking(*args, **kwargs)
        raise Taken

    words = _words(command)
    monkeypatch.setattr(tyro, "cli", take)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Taken):
        main(words)
