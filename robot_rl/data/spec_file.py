"""The small file beside stored transitions that says for which spec they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from robot_rl.data.durable import write_synced
from robot_rl.errors import DataError
from robot_rl.spec import Spec

FORMAT = 1


def write_spec_file(file: Path, spec: Spec, **facts: str | float) -> None:
    """Write `spec`, with further facts beside it."""
    meta = {"format": FORMAT, **facts, "spec_digest": spec.digest, "spec": spec.to_dict()}
    write_synced(file, json.dumps(meta, indent=2).encode())


def read_spec_file(file: Path, spec: Spec, what: str, remedy: str) -> dict[str, Any]:
    """Facts of a file made by `write_spec_file`, once its spec is found to be `spec`.

    Args:
        file: The file.
        spec: What this program works with.
        what: Names the thing, for messages.
        remedy: What the user can do about another spec.

    Raises:
        DataError: If it is no such file or of another format.
        SpecMismatch: If it is for another spec.
    """
    try:
        raw = cast("dict[str, Any]", json.loads(file.read_bytes()))
        version, theirs = raw["format"], Spec.from_dict(raw["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not the header of {what} ({error!r}). Give another folder.") from error
    if version != FORMAT:
        raise DataError(f"{file} has format {version}, this program reads {FORMAT}. Give another folder.")
    theirs.require_match(spec, what, "this run", remedy)
    return raw
