"""A YAML file whose errors name file, line, key, value and remedy."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

from robot_rl.config import nearest
from robot_rl.errors import ConfigError

Steps = list[int | str]


@dataclass(frozen=True)
class ArmFile:
    """A mapping with the places of its keys.

    Args:
        path: The file.
        root: Its nodes, which know their lines.
        raw: Its values.
    """

    path: Path
    root: yaml.Node
    raw: Any

    @staticmethod
    def read(path: Path) -> ArmFile:
        """Open a file.

        Raises:
            ConfigError: If it cannot be read, is not YAML or holds no mapping.
        """
        try:
            text = path.read_text()
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            raw = yaml.safe_load(text)
        except OSError as error:
            raise ConfigError(f"Cannot read arm config {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is no UTF-8 text ({error}). Save it as UTF-8.") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path} holds no keys; copy hardware_configs/virtual.yaml and change it.")
        _require_once(path, root)
        return ArmFile(path, root, raw)

    def fault(self, steps: Steps, text: str) -> ConfigError:
        """An error at the line of a key."""
        return ConfigError(f"{self.path}:{self.line(steps)}: {text}")

    def line(self, steps: Steps) -> int:
        """1-based line of the value at a path; of the key where that is known."""
        node, line = self.root, self.root.start_mark.line
        for step in steps:
            if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = cast("yaml.Node", node.value[step])
                line = node.start_mark.line
            elif isinstance(node, yaml.MappingNode):
                pairs = cast("list[tuple[yaml.ScalarNode, yaml.Node]]", node.value)
                found = [(key, value) for key, value in pairs if key.value == step]
                if not found:
                    break
                line, node = found[0][0].start_mark.line, found[0][1]
        return line + 1

    def located(self, error: msgspec.ValidationError, kind: Any, below: str = "") -> ConfigError:
        """The same error with line, key and nearest key.

        Args:
            error: What msgspec said.
            kind: The struct that the value was converted to.
            below: Key of that value; empty for the whole file.
        """
        message, _, where = str(error).partition(" - at `")
        inner: Steps = [int(a) if a else b for a, b in re.findall(r"\[(\d+)\]|\.(\w+)", where)]
        steps: Steps = [below, *inner] if below else inner
        unknown = re.search(r"unknown field `(.+)`", message)
        if unknown:
            key = unknown.group(1)
            hint = nearest(key, _fields_at(kind, inner))
            return self.fault([*steps, key], f"unknown key '{key}'.{hint}")
        missing = re.search(r"missing required field `(.+)`", message)
        if missing:
            inside = f" of {_dotted(steps)}" if steps else ""
            return self.fault(steps, f"key '{missing.group(1)}'{inside} is missing; it has no default.")
        value = self.raw
        for step in steps:
            value = value[step]
        return self.fault(steps, f"{_dotted(steps)} is {value!r}: {message[0].lower()}{message[1:]}.")


def _require_once(path: Path, node: yaml.Node) -> None:
    """Refuse a key that stands twice in one mapping: YAML would take the last without a word, a limit among them."""
    if isinstance(node, yaml.SequenceNode):
        for child in cast("list[yaml.Node]", node.value):
            _require_once(path, child)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, child in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise ConfigError(f"{path}:{line}: key '{name}' stands here and in line {lines[name]}; keep one of them.")
        lines[name] = line
        _require_once(path, child)


def _dotted(steps: Steps) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def _fields_at(kind: Any, steps: Steps) -> list[str]:
    """Known keys of the mapping at a path."""
    for step in steps:
        kind = typing.get_args(kind)[0] if isinstance(step, int) else typing.get_type_hints(kind)[step]
        members = [m for m in typing.get_args(kind) if isinstance(m, type) and issubclass(m, msgspec.Struct)]
        if members and typing.get_origin(kind) is not tuple:  # ToolConfig | None
            kind = members[0]
    return [f.name for f in msgspec.structs.fields(kind)]
