"""The doctor's report as one HTML file with its plots inside: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from robot_rl.data.doctor.report import Report

_COLOURS = {"usable": "#2a7f3f", "with care": "#c98a00", "not usable": "#b3261e"}
_MOST_DIMENSIONS = 60
_MOST_EPISODES = 2000
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%;margin:.5em 0 1.5em}td,th{border-bottom:1px solid #ddd;padding:.25em .6em;
text-align:left;vertical-align:top}td.n{text-align:right}.error{color:#b3261e;font-weight:600}.warning{color:#c98a00;
font-weight:600}.note{color:#2b6cb0;font-weight:600}img{max-width:100%}.remedy{color:#666}"""


def html_report(report: Report) -> str:
    """The whole page."""
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{_text(report.path)}</title>",
        f"<style>{_STYLE}</style><h1>Dataset doctor</h1>",
        f"<p>{_text(report.path)}: {report.episodes} episodes, {report.steps:,} steps. ",
        f"<b>{_text(report.verdict)}</b></p>",
        "<h2>Findings</h2>",
        _findings(report),
    ]
    if report.facts:
        parts += [f"<h2>{title}</h2><p>{said}</p>{_picture(draw(report))}" for title, said, draw in _PLOTS]
    parts += ["<h2>Episodes</h2>", _episodes(report), "</html>"]
    return "\n".join(parts)


def _findings(report: Report) -> str:
    rows = [
        f"<tr><td class='{f.severity}'>{f.severity}</td><td>{_text(f.check)}</td>"
        f"<td>{'' if f.episode is None else f.episode}</td>"
        f"<td>{_text(f.what)}<br><span class='remedy'>{_text(f.remedy)}</span></td></tr>"
        for f in report.findings
    ]
    return _table(("", "check", "episode", "what, and what to do"), rows) if rows else "<p>None.</p>"


def _episodes(report: Report) -> str:
    known = {f.index: f for f in report.facts}
    rows: list[str] = []
    for index, verdict in enumerate(report.verdicts[:_MOST_EPISODES]):
        facts = known.get(index)
        figures = ("", "", "") if facts is None else (f"{facts.steps:,}", f"{facts.return_:.3g}", str(facts.success))
        checks = ", ".join(dict.fromkeys(f.check for f in report.of_episode(index)))
        cells = "".join(f"<td class='n'>{_text(c)}</td>" for c in (str(index), *figures))
        colour = f"<td style='color:{_COLOURS[verdict]}'>{verdict}</td>"
        rows.append(f"<tr>{cells}{colour}<td>{_text(checks)}</td><td>{_text(facts.source if facts else '')}</td></tr>")
    return _table(("episode", "steps", "return", "success", "verdict", "checks", "source"), rows)


def _lengths(report: Report) -> Any:
    figure, (one, two) = plt.subplots(2, 1, figsize=(9, 4), sharex=True)
    index = [f.index for f in report.facts]
    colours = [_COLOURS[report.verdicts[i]] if i < len(report.verdicts) else "grey" for i in index]
    one.bar(index, [f.steps for f in report.facts], color=colours, width=1.0)
    one.set_ylabel("steps")
    two.bar(index, [f.return_ for f in report.facts], color=colours, width=1.0)
    two.set_ylabel("return")
    two.set_xlabel("episode")
    return figure


def _starts(report: Report) -> Any:
    starts = np.array([f.start for f in report.facts])[:, :_MOST_DIMENSIONS]
    scale = np.maximum(
        np.std([f.mean for f in report.facts], axis=0) + np.mean([f.std for f in report.facts], axis=0), 1e-9
    )
    shifted = (starts - np.median(starts, axis=0)) / scale[:_MOST_DIMENSIONS]
    figure, axis = plt.subplots(figsize=(9, max(2.5, 0.16 * starts.shape[1])))
    image = axis.imshow(shifted.T, aspect="auto", cmap="RdBu_r", vmin=-2, vmax=2, interpolation="nearest")
    axis.set_yticks(range(starts.shape[1]), report.obs_names[:_MOST_DIMENSIONS], fontsize=6)
    axis.set_xlabel("episode")
    figure.colorbar(image, label="spreads from the median")
    return figure


def _actions(report: Report) -> Any:
    names = report.action_names[:_MOST_DIMENSIONS]
    weights = [f.steps for f in report.facts]
    share = np.average([f.at_bound for f in report.facts], axis=0, weights=weights)[:_MOST_DIMENSIONS]
    low = np.min([f.action_low for f in report.facts], axis=0)[:_MOST_DIMENSIONS]
    high = np.max([f.action_high for f in report.facts], axis=0)[:_MOST_DIMENSIONS]
    figure, (one, two) = plt.subplots(1, 2, figsize=(9, max(2.0, 0.22 * len(names))), sharey=True)
    one.barh(range(len(names)), high - low, left=low, color="#5b7fa6")
    one.set_yticks(range(len(names)), names, fontsize=7)
    one.set_xlabel("range used")
    two.barh(range(len(names)), 100 * share, color="#c98a00")
    two.set_xlabel("steps at a bound, %")
    return figure


_PLOTS = (
    ("Lengths and returns", "Green episodes are usable, amber ones with care, red ones not.", _lengths),
    (
        "Start of each episode",
        "Mean of the first observations against the median episode. A block of another colour from one episode on is a "
        "shift: a new calibration, a moved mount.",
        _starts,
    ),
    ("Actions", "What range each dimension uses, and how often it sits at a bound.", _actions),
)


def _picture(figure: Any) -> str:
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    return f"<img alt='plot' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{''.join(rows)}</table>"


def _text(value: str) -> str:
    return html.escape(value)
