"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or odd; `episode` is None where it concerns the whole dataset."""

    severity: Severity
    check: str
    what: str
    remedy: str
    episode: int | None = None
