"""How a benchmark ends: its figures in a file, as JSON for programs, or as a table for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.console import print_json


def deliver(result: Mapping[str, Any], show: Callable[[], None], *, as_json: bool, out: Path | None = None) -> int:
    """Write and print.

    Args:
        result: All figures, and the machine they come from.
        show: Prints them for people.
        as_json: Print JSON instead.
        out: JSON file to write as well.

    Returns:
        The command's exit status.
    """
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print_json(result)
    else:
        show()
    return 0
