"""One pass over the episodes of a dataset or of a log not imported yet: every check, one report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from robot_rl.data.dataset import Dataset
from robot_rl.data.doctor.camera_checks import camera_findings
from robot_rl.data.doctor.episode_checks import check_episode
from robot_rl.data.doctor.facts import Gathered
from robot_rl.data.doctor.finding import Finding
from robot_rl.data.doctor.group_checks import check_together
from robot_rl.data.doctor.metadata_checks import check_metadata
from robot_rl.data.doctor.report import Report, ordered
from robot_rl.data.doctor.shift_checks import check_shifts
from robot_rl.data.doctor.split_checks import check_splits
from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import ImportedLog
from robot_rl.errors import DataError, RobotRLError
from robot_rl.spec import Spec

_BAD = ("unreadable", "not finite")


def diagnose(dataset: Dataset) -> Report:
    """Look at every episode of `dataset`."""
    findings = list(check_metadata(dataset))
    if any(f.check == "unreadable" for f in findings):
        return Report(str(dataset.path), len(dataset), 0, ordered(findings))
    seen = Gathered(dataset.spec)
    findings += _examine(_read(dataset), dataset.spec, seen)
    if seen.steps != dataset.total_steps and not any(f.check in _BAD for f in findings):
        what = f"the metadata count {dataset.total_steps} steps, the episodes hold {seen.steps}"
        findings.append(Finding(severity="error", check="counts", what=what, remedy="import the logs again"))
    findings += camera_findings(dataset)
    return _report(str(dataset.path), len(dataset), seen, findings)


def diagnose_log(path: Path, log: ImportedLog) -> Report:
    """Look at every episode of a log; the reader's own notes become notes of the report.

    Args:
        path: The log.
        log: Opened; its episodes are consumed.
    """
    seen = Gathered(log.spec)
    findings = [Finding(severity="note", check=f"read as {log.format}", what=n, remedy="") for n in log.notes]
    findings += [_as_imported(f) for f in _examine(_guarded(log.episodes), log.spec, seen)]
    unread = [f.episode for f in findings if f.check == "unreadable" and f.episode is not None]
    if unread and log.count > unread[0] + 1:
        what = f"episodes {unread[0] + 1} to {log.count - 1} come behind it and were not looked at"
        findings.append(Finding(severity="note", check="unread", what=what, remedy="mend the log, then look again"))
    findings += check_splits(log.splits, seen, log.count)
    return _report(str(path), log.count, seen, findings)


def _as_imported(finding: Finding) -> Finding:
    """A finding on a log, where importing mends what would be an error in a dataset."""
    if finding.check != "actions out of bounds":
        return finding
    remedy = "`data import` clips them, as the environment did; see whether these are the bounds the robot had"
    return replace(finding, severity="warning", remedy=remedy)


def refused(path: Path, error: RobotRLError) -> Report:
    """The report on a log that its reader does not open."""
    finding = Finding(severity="error", check="unreadable", what=str(error), remedy="")
    return Report(str(path), 0, 0, (finding,))


def _report(path: str, episodes: int, seen: Gathered, findings: list[Finding]) -> Report:
    findings += [*check_together(seen), *check_shifts(seen)]
    names = tuple(seen.spec.obs_names), tuple(seen.spec.action_names)
    return Report(path, episodes, seen.steps, ordered(findings), tuple(seen.facts), *names)


def _examine(episodes: Iterator[Episode | DataError], spec: Spec, seen: Gathered) -> list[Finding]:
    findings: list[Finding] = []
    for index, episode in enumerate(episodes):
        if isinstance(episode, DataError):
            remedy = "import the logs again"
            what = str(episode)
            findings.append(Finding(severity="error", check="unreadable", what=what, remedy=remedy, episode=index))
            continue
        widths = episode.observations.shape[1], episode.actions.shape[1]
        if widths != (spec.obs_dim, spec.action_dim):
            what = (
                f"has {widths[0]} observations and {widths[1]} actions, the spec {spec.obs_dim} and {spec.action_dim}"
            )
            remedy = "do not mix recordings of different robots; import them apart"
            findings.append(Finding(severity="error", check="schema", what=what, remedy=remedy, episode=index))
            continue
        found = list(check_episode(episode, spec, index))
        findings += found
        if not any(f.check == "not finite" for f in found):
            seen.add(episode, index)
    return findings


def _read(dataset: Dataset) -> Iterator[Episode | DataError]:
    for index in range(len(dataset)):
        try:
            yield dataset.episode(index)
        except DataError as error:
            yield error


def _guarded(episodes: Iterator[Episode]) -> Iterator[Episode | DataError]:
    """The episodes up to the first that its reader refuses, then that refusal."""
    try:
        yield from episodes
    except DataError as error:
        yield error
