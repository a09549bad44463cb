"""What installed packages register in a group of entry points: verbs, benches, environments, experts, arms.

Needs no torch.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from robot_rl.errors import RobotRLError


def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, nothing of them imported."""
    return {point.name: point for point in entry_points(group=group)}


def load(point: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises:
        RobotRLError: If its module is not there, as after an update of the code alone.
    """
    try:
        return point.load()
    except ModuleNotFoundError as error:
        if error.name is None or not f"{point.module}.".startswith(f"{error.name}."):
            raise  # the module is there, what it imports is not
        raise RobotRLError(
            f"'{point.name}' in {point.group} is {point.value}, and there is no {error.name}: what is installed was "
            f"made from another version of the code. Install it again: `make setup`, or `pip install -e .`."
        ) from error
