"""The doctor's findings: verdicts, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console

from robot_rl.data.doctor.facts import Facts
from robot_rl.data.doctor.finding import Finding

EpisodeVerdict = Literal["usable", "with care", "not usable"]


@dataclass(frozen=True)
class Report:
    """All findings on a dataset or log."""

    path: str
    episodes: int
    steps: int
    findings: tuple[Finding, ...]
    facts: tuple[Facts, ...] = ()
    obs_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """Number of findings that forbid training."""
        return sum(f.severity == "error" for f in self.findings)

    @property
    def verdict(self) -> str:
        """One line."""
        warnings = sum(f.severity == "warning" for f in self.findings)
        if self.errors:
            return f"not usable: {self.errors} error{'s' * (self.errors > 1)}"
        return f"usable with care: {warnings} warning{'s' * (warnings > 1)}" if warnings else "usable"

    @property
    def exit_status(self) -> int:
        """2 where there is an error, else 0."""
        return 2 if self.errors else 0

    @property
    def verdicts(self) -> tuple[EpisodeVerdict, ...]:
        """One an episode, by its own findings."""
        worst: list[EpisodeVerdict] = ["usable"] * self.episodes
        for finding in self.findings:
            if finding.episode is None or not 0 <= finding.episode < self.episodes:
                continue
            if finding.severity == "error":
                worst[finding.episode] = "not usable"
            elif finding.severity == "warning" and worst[finding.episode] == "usable":
                worst[finding.episode] = "with care"
        return tuple(worst)

    def of_episode(self, index: int) -> list[Finding]:
        """Findings on episode `index`."""
        return [f for f in self.findings if f.episode == index]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        named = {f.index: f for f in self.facts}
        episodes = [
            {
                "episode": i,
                "verdict": verdict,
                "steps": named[i].steps if i in named else None,
                "source": named[i].source if i in named else "",
                "checks": [f.check for f in self.of_episode(i)],
            }
            for i, verdict in enumerate(self.verdicts)
        ]
        return {
            "path": self.path,
            "episodes": self.episodes,
            "steps": self.steps,
            "findings": [asdict(f) for f in self.findings],
            "episode_verdicts": episodes,
            "verdict": self.verdict,
            "exit_status": self.exit_status,
        }

    def render(self, console: Console, most: int = 5) -> None:
        """Print findings by check, at most `most` of each, then the verdicts."""
        colours = {"error": "red", "warning": "yellow", "note": "cyan"}
        for check in dict.fromkeys(f.check for f in self.findings):
            group = [f for f in self.findings if f.check == check]
            console.print(f"[bold {colours[group[0].severity]}]{group[0].severity}[/] [bold]{check}[/]")
            for finding in group[:most]:
                where = "" if finding.episode is None else f"episode {finding.episode}: "
                console.print(f"  {where}{finding.what}", markup=False)
            if len(group) > most:
                console.print(f"  ... and {len(group) - most} more")
            if group[0].remedy:
                console.print(f"  remedy: {group[0].remedy}", style="dim", markup=False)
        for verdict in ("not usable", "with care"):
            found = [i for i, v in enumerate(self.verdicts) if v == verdict]
            if found:
                console.print(f"episodes {verdict}: {_ranges(found)} ({len(found)} of {self.episodes})")
        colour = "red" if self.errors else "yellow" if self.findings else "green"
        console.print(f"[bold {colour}]{self.verdict}[/]  ({self.episodes} episodes, {self.steps:,} steps)")


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then notes."""
    rank = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(findings, key=lambda f: rank[f.severity]))


def _ranges(numbers: list[int], most: int = 12) -> str:
    """Such as `0-4, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in parts[:most]]
    return ", ".join(shown) + (", ..." if len(parts) > most else "")
