"""One YAML file an arm; see docs/add_an_arm.md."""

from __future__ import annotations

from pathlib import Path

from robot_rl.config import nearest
from robot_rl.errors import ConfigError

FOLDER = Path(__file__).parent


def config_path(name: str) -> Path:
    """File of a shipped arm config, such as "virtual".

    Raises:
        ConfigError: If there is none; the nearest name is given.
    """
    known = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
    if name not in known:
        raise ConfigError(f"No arm '{name}' in hardware_configs.{nearest(name, known)} Or give a .yaml file.")
    return known[name]
