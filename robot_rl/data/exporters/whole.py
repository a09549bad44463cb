"""All or nothing: an export appears under its name once it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from robot_rl.data.durable import require_new
from robot_rl.errors import DataError


@contextmanager
def whole(out: Path) -> Generator[Path]:
    """A temporary sibling of `out`, renamed to it on success and removed otherwise.

    Raises:
        DataError: If `out` exists or cannot be written.
    """
    require_new(out)
    work = out.absolute().with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield work
        work.rename(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}). Choose another --out.") from error
    finally:
        if work.is_dir():
            shutil.rmtree(work, ignore_errors=True)
        else:
            work.unlink(missing_ok=True)
