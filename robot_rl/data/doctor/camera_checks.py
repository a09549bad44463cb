"""The doctor's word on pictures: which cameras there are, and whether their files are still where they were."""

from __future__ import annotations

from collections.abc import Iterator

from robot_rl.data.dataset import Dataset
from robot_rl.data.doctor.finding import Finding
from robot_rl.data.pictures.cameras import cameras_of


def camera_findings(dataset: Dataset) -> Iterator[Finding]:
    """A note for each camera, a warning where episodes have lost its files."""
    for camera in cameras_of(dataset):
        if camera.missing:
            what = f"'{camera.name}': {camera.missing} of {camera.episodes} episodes' files are gone ({camera.folder})"
            remedy = "put the log back there, or import it again; learning from state is not affected"
            yield Finding(severity="warning", check="cameras", what=what, remedy=remedy)
        else:
            remedy = "learners here use the state; fetch pictures with `data frame`"
            yield Finding(severity="note", check="cameras", what=f"'{camera.name}': {camera.line}", remedy=remedy)
