"""`robot-rl success-classifier`: learn to tell success from observations."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.config import parse
from robot_rl.console import key_value_table, make_console, print_json
from robot_rl.success_classifier import ClassifierConfig, train_classifier

DESCRIPTION = """\
Train a small network that tells from an observation whether the task is achieved:

    robot-rl success-classifier --data data/lift --out outputs/lift-success
    robot-rl finetune sac --data data/lift --out outputs/lift-online --reward classifier:outputs/lift-success

It learns from labelled episodes and is calibrated (temperature scaling) and judged on episodes it has not seen.
As a reward it is -1 until success is more likely than not, 0 then, for logged and new data alike."""


def main(argv: Sequence[str]) -> int:
    """Parse, train, and say how far it can be trusted."""
    config = parse(ClassifierConfig, argv, prog="robot-rl success-classifier", description=DESCRIPTION)
    report = train_classifier(config)
    if config.json:
        print_json({"out": str(config.out), "temperature": report.temperature, **report.facts()})
        return 0
    found = report.reliability
    rows = {
        "accuracy": f"{report.accuracy:.1%}",
        "false alarms": f"{report.false_alarms:.1%} of the frames without success",
        "temperature": f"{report.temperature:.2f}",
        "calibration error": f"{found.error:.3f} ({report.error_before:.3f} before)",
        "reliability": str(config.out / "reliability.png"),
    }
    out = make_console()
    title = f"{report.frames:,} held-out frames, {report.positives:,} at success"
    out.print(key_value_table(title, rows))
    bins = [
        f"{said:.2f} -> {share:.2f} ({count:,})"
        for said, share, count in zip(found.said, found.found, found.count, strict=True)
        if count
    ]
    out.print("said -> found (frames): " + ", ".join(bins))
    out.print(f"Next: robot-rl finetune ... --reward classifier:{config.out}", markup=False)
    return 0
