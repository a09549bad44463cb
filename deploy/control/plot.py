"""A picture of how steady the ticks were."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from deploy.control.report import ServeReport


def plot_timing(report: ServeReport, file: Path) -> None:
    """Histograms of period and compute time, PNG."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        for axes, (name, series) in zip(figure.subplots(1, 2), report.series.items(), strict=True):
            values = series[np.isfinite(series)] / 1e3
            if len(values):
                axes.hist(values, bins=60, color="#3465a4" if name == "period" else "#4e9a06")
                axes.axvline(float(np.percentile(values, 99)), color="#cc0000", linewidth=1, label="p99")
                axes.legend(frameon=False)
            axes.set(xlabel=f"{name}, ms", ylabel="ticks", yscale="log")
        figure.suptitle(f"{report.run} on {report.arm}: {report.ticks:,} ticks, {report.missed} missed")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=120)
