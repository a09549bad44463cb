"""What a log says of itself against what its rows hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robot_rl.errors import DataError


@dataclass
class Contradictions:
    """Refuses the first contradiction, or notes each one where the user trusts the rows.

    Args:
        path: The log, for messages.
        trust_rows: `--trust-rows`.
    """

    path: Path
    trust_rows: bool
    found: list[str] = field(default_factory=list[str])

    def add(self, what: str) -> None:
        """Report one, both values named in `what`.

        Raises:
            DataError: Unless the rows are trusted.
        """
        if not self.trust_rows:
            raise DataError(
                f"{self.path} contradicts itself: {what}. Download or export it again, or read what the rows hold "
                f"with --trust-rows."
            )
        self.found.append(what)

    @property
    def notes(self) -> list[str]:
        """What was contradictory, the first few in full."""
        shown = [f"contradiction, read by the rows (--trust-rows): {what}" for what in self.found[:8]]
        rest = len(self.found) - len(shown)
        return [*shown, *([f"and {rest} more contradictions, read by the rows"] if rest else [])]
