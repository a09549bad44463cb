"""Configuration: frozen dataclasses, filled from a YAML file and overridden on the command line.

`parse` is the one way in. Every value is typed; an unknown key is refused with the nearest name. The
resolved config is saved with each run by `save_yaml` and can be given back with `--config`.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import tyro
import yaml

from robot_rl.errors import ConfigError

C = TypeVar("C")

LEAST = {"seed": 0, "threads": 1, "episode_steps": 1}  # of options that mean the same in every command
MOST_SEED = 2**31  # some simulators take 32 bits, and seeds of episodes count up from it


def parse(
    cls: type[C],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    defaults: Mapping[str, Any] | None = None,
) -> C:
    """Build a config from `argv`, over an optional `--config FILE.yaml`, over the class defaults.

    Args:
        cls: A frozen dataclass; comments beside its fields become the help text.
        argv: Command line without the verb.
        prog: Shown in usage, such as "robot-rl pretrain".
        description: First paragraph of `--help`.
        defaults: Field values that replace the class defaults (below file and command line).

    Returns:
        The resolved config.

    Raises:
        ConfigError: If the file is missing, is not YAML, or has an unknown or wrongly typed key; if an option that
            commands share is out of its range.
        SystemExit: From tyro, status 2 on a wrong command line and 0 after `--help`.
    """
    rest, file = _split_config(list(argv))
    raw = load_yaml(file) if file else {}
    default = from_mapping(cls, raw, str(file or "defaults"), defaults=defaults, partial=True, checked=False)
    text = f"{description}\n\nOptions can also come from a YAML file, --config FILE; the command line wins."
    settings = (tyro.conf.AvoidSubcommands,)
    config = tyro.cli(cls, args=rest, prog=prog, description=text, default=default, config=settings)
    _require_least(config)
    return config


def _require_least(config: Any, above: str = "") -> None:
    for f in dataclasses.fields(config):
        name, value = f"{above}{f.name.replace('_', '-')}", getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            _require_least(value, f"{name}.")
        elif f.name in LEAST and isinstance(value, int) and value < LEAST[f.name]:
            raise ConfigError(f"--{name} is {value}; it must be {LEAST[f.name]} or more.")
        elif f.name == "seed" and isinstance(value, int) and value > MOST_SEED:
            raise ConfigError(f"--{name} is {value}; it must be {MOST_SEED} or less.")


def load_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: If the file is missing, malformed or not a mapping.
    """
    try:
        raw = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(f"Cannot read config {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{file} holds a {type(raw).__name__}; expected keys and values.")
    return cast("dict[str, Any]", raw)


def save_yaml(config: Any, file: Path) -> None:
    """Write a resolved config so that `--config` reads it back."""
    file.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain YAML/JSON types of a config dataclass."""
    return cast("dict[str, Any]", msgspec.to_builtins(config, enc_hook=str))


def from_mapping(
    cls: type[C],
    raw: Mapping[str, Any],
    where: str,
    *,
    defaults: Mapping[str, Any] | None = None,
    partial: bool = False,
    checked: bool = True,
) -> C:
    """Typed dataclass from plain values.

    Args:
        cls: A dataclass, possibly with nested ones.
        raw: Keys and values, nested mappings for nested dataclasses.
        where: File name or key path, for messages.
        defaults: Field values that replace the class defaults.
        partial: Leave required fields open for the command line instead of refusing.
        checked: Hold the values against each other; not where more are to come.

    Raises:
        ConfigError: On an unknown key, a wrong type, or a missing required key.
    """
    fields = {f.name: f for f in dataclasses.fields(cast("Any", cls)) if f.init}
    for key in raw:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'.{nearest(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        base = (defaults or {}).get(name, dataclasses.MISSING)
        if name in raw:
            values[name] = _convert(hints[name], raw[name], f"{where}: {name}", base, checked)
        elif base is not dataclasses.MISSING:
            values[name] = base
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if not partial:
                raise ConfigError(f"{where}: key '{name}' is missing; it has no default.")
            values[name] = tyro.MISSING
    return cls(**values) if checked else _unchecked(cls, values)


def _unchecked(cls: type[C], values: Mapping[str, Any]) -> C:
    """What `cls(**values)` makes, but for its `__post_init__`."""
    made = cls.__new__(cls)
    for field in dataclasses.fields(cast("Any", cls)):
        if field.name in values:
            value = values[field.name]
        else:
            value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        object.__setattr__(made, field.name, value)
    return made


def chosen_kind(argv: Sequence[str], kinds: typing.Collection[str], *, key: str, what: str, default: str) -> str:
    """The kind named on a command line or in its `--config` file, looked up before parsing.

    It decides which options there are.

    Args:
        argv: Command line without the verb.
        kinds: Those there are.
        key: Of the kind in a file.
        what: Such a thing with its article, for messages.
        default: Where nothing is named.

    Raises:
        ConfigError: If there is none by the name given.
    """
    words = list(argv)
    for word in words:
        if word in kinds:
            return word
    if "--config" in words[:-1]:
        name = str(load_yaml(Path(words[words.index("--config") + 1])).get(key, ""))
        if name in kinds:
            return name
        raise ConfigError(f"{key}: '{name}' is not {what}.{nearest(name, kinds)}")
    if words and not words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}' is not {what}.{nearest(words[0], kinds)}")
    return default


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """A hint such as ` Did you mean 'seed'?`, or the list of what is known."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(choices)}."


def _split_config(argv: list[str]) -> tuple[list[str], Path | None]:
    for i, word in enumerate(argv):
        if word == "--config":
            if i + 1 == len(argv):
                raise ConfigError("--config needs a file name behind it.")
            return argv[:i] + argv[i + 2 :], Path(argv[i + 1])
        if word.startswith("--config="):
            return argv[:i] + argv[i + 1 :], Path(word.removeprefix("--config="))
    return argv, None


def _convert(hint: Any, value: Any, where: str, base: Any, checked: bool) -> Any:
    target = _dataclass_of(hint, base)
    if target is not None and isinstance(value, Mapping):
        given = (
            None if base is dataclasses.MISSING else {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
        )
        return from_mapping(target, cast("Mapping[str, Any]", value), where, defaults=given, checked=checked)
    try:
        return msgspec.convert(value, hint, dec_hook=_decode)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError(f"{where}: {error} (got {value!r}).") from error


def _dataclass_of(hint: Any, base: Any) -> Any:
    """The dataclass a hint stands for; of a union, the one that `base` is an instance of."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if dataclasses.is_dataclass(hint):
        return hint
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    return next((m for m in members if dataclasses.is_dataclass(m) and type(base) is m), None)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
