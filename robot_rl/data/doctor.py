"""Is a dataset fit to learn from? One pass over the episodes, a verdict and the remedies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from robot_rl.data.camera_checks import camera_findings
from robot_rl.data.checks import Finding, Together, check_episode
from robot_rl.data.dataset import Dataset
from robot_rl.errors import DataError


@dataclass(frozen=True)
class Report:
    """All findings on a dataset."""

    path: str
    episodes: int
    steps: int
    findings: tuple[Finding, ...]

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

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {**asdict(self), "verdict": self.verdict, "exit_status": self.exit_status}

    def render(self, console: Console, most: int = 5) -> None:
        """Print findings by check, at most `most` of each, and the verdict."""
        colours = {"error": "red", "warning": "yellow", "note": "cyan"}
        for check in dict.fromkeys(f.check for f in self.findings):
            group = [f for f in self.findings if f.check == check]
            console.print(f"[bold {colours[group[0].severity]}]{group[0].severity}[/] [bold]{check}[/]")
            for finding in group[:most]:
                where = "" if finding.episode is None else f"episode {finding.episode}: "
                console.print(f"  {where}{finding.what}", markup=False)
            if len(group) > most:
                console.print(f"  ... and {len(group) - most} more")
            console.print(f"  [dim]remedy: {group[0].remedy}[/]")
        colour = "red" if self.errors else "yellow" if self.findings else "green"
        console.print(f"[bold {colour}]{self.verdict}[/]  ({self.episodes} episodes, {self.steps:,} steps)")


def diagnose(dataset: Dataset) -> Report:
    """Look at every episode of `dataset`."""
    findings: list[Finding] = []
    seen = Together(dataset.spec)
    for index in range(len(dataset)):
        try:
            episode = dataset.episode(index)
        except DataError as error:
            remedy = "import the logs again"
            findings.append(
                Finding(severity="error", check="unreadable", what=str(error), remedy=remedy, episode=index)
            )
            continue
        found = list(check_episode(episode, dataset.spec, index))
        findings += found
        if not any(f.check == "not finite" for f in found):
            seen.add(episode, index)
    findings += seen.findings()
    if seen.steps != dataset.total_steps and not any(f.check in ("unreadable", "not finite") for f in findings):
        what = f"the metadata counts {dataset.total_steps} steps, the episodes hold {seen.steps}"
        findings.append(Finding(severity="error", check="counts", what=what, remedy="import the logs again"))
    findings += camera_findings(dataset)
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda f: order[f.severity])
    return Report(str(dataset.path), len(dataset), seen.steps, tuple(findings))
