"""`robot-rl data doctor SRC`: verdicts on a dataset or a log, and a mended copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.data.dataset import METADATA_KEY, Dataset, load_dataset, read_metadata, write_dataset
from robot_rl.data.doctor.diagnose import diagnose, diagnose_log, refused
from robot_rl.data.doctor.fix import Fixer
from robot_rl.data.doctor.report import Report
from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import FormatName, ReadOptions
from robot_rl.data.formats.registry import open_log
from robot_rl.errors import ConfigError, DataError, RobotRLError

DOCTOR_HELP = """Look for what spoils learning: NaN, dead, frozen or saturated dimensions, actions out of bounds, clock
faults, lags, drift, swapped columns, mixed units, duplicates, leaking splits, cut or idle episodes, missing labels.
Takes a dataset folder or any log that `data import` reads. Exit status 2 where there is an error, 0 otherwise.

    robot-rl data doctor data/lift --html lift.html
    robot-rl data doctor data/lift --fix --out data/lift-mended"""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Examine a dataset or a log."""

    source: tyro.conf.Positional[Path]  # dataset folder, or a log as `data import` takes it
    format: FormatName = "auto"  # of a log
    env: str = ""  # of a log: as for `data import`
    topics: Path | None = None  # of a recording: as for `data import`
    html: Path | None = None  # write the report with plots to this file
    fix: bool = False  # write a mended dataset to --out and say what was changed
    out: Path | None = None  # dataset folder that --fix writes; must not exist
    json: bool = False  # one JSON object on standard output

    def __post_init__(self) -> None:
        if self.fix and self.out is None:
            raise ConfigError("--fix writes a new dataset; name its folder with --out DIR.")
        if self.out is not None and not self.fix:
            raise ConfigError("--out is for --fix; add --fix, or leave --out away.")
        if self.out is not None:
            require_new(self.out)


def doctor(argv: Sequence[str]) -> int:
    """Examine, show, mend."""
    config = parse(DoctorConfig, argv, prog="robot-rl data doctor", description=DOCTOR_HELP)
    report = _examined(config)
    changes = _mended(config, report) if config.fix else []
    if config.html is not None:
        from robot_rl.data.doctor.html import html_report  # noqa: PLC0415 - matplotlib takes its time

        config.html.write_text(html_report(report))
    if config.json:
        print_json(report.to_dict() | ({"fixed": str(config.out), "changes": changes} if config.fix else {}))
        return report.exit_status
    out = make_console()
    report.render(out)
    for change in changes:
        out.print(f"fixed: {change}", markup=False)
    if config.fix:
        out.print(f"wrote {config.out}; {config.source} is as it was", markup=False)
    if config.html is not None:
        out.print(f"report: {config.html}", markup=False)
    return report.exit_status


def _examined(config: DoctorConfig) -> Report:
    if _is_ours(config.source):
        return diagnose(load_dataset(config.source))
    if not config.source.exists():
        raise DataError(f"No dataset or log at {config.source}. Make a dataset with `robot-rl data import`.")
    try:
        return diagnose_log(config.source, open_log(config.source, config.format, _options(config)))
    except ConfigError:
        raise
    except RobotRLError as error:
        return refused(config.source, error)


def _mended(config: DoctorConfig, report: Report) -> list[str]:
    if config.out is None or report.episodes == 0:
        raise DataError(f"{config.source} cannot be read, so there is nothing to mend: {report.findings[0].what}")
    if _is_ours(config.source):
        dataset = load_dataset(config.source)
        spec, episodes = dataset.spec, _readable(dataset)
    else:
        log = open_log(config.source, config.format, _options(config))
        spec, episodes = log.spec, _until_broken(log.episodes)
    fixer = Fixer(report, spec)
    mended = list(fixer.mend(episodes))
    if not mended:
        raise DataError(f"Nothing is left of {config.source} after mending: {'; '.join(fixer.changes)}.")
    notes = [f"mended: {change}" for change in fixer.changes]
    write_dataset(config.out, spec, mended, origin=str(config.source.name), notes=notes)
    return fixer.changes


def _is_ours(source: Path) -> bool:
    """Whether it is a dataset that this program wrote; other Minari folders are logs."""
    return (source / "data" / "metadata.json").is_file() and METADATA_KEY in read_metadata(source)


def _options(config: DoctorConfig) -> ReadOptions:
    return ReadOptions(env=config.env, topics=config.topics)


def _readable(dataset: Dataset) -> Iterator[tuple[int, Episode]]:
    for index in range(len(dataset)):
        try:
            yield index, dataset.episode(index)
        except DataError:  # the report says why
            continue


def _until_broken(episodes: Iterator[Episode]) -> Iterator[tuple[int, Episode]]:
    try:
        yield from enumerate(episodes)
    except DataError:  # the report says why, and what came behind
        return
