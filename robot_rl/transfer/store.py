"""Teachers on disk.

RUN/checkpoints/<step>/pretrained_model/   sizes, names of the sources, statistics; weights
RUN/source_steps.safetensors               every step of the sources as the teacher saw it
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from robot_rl.checkpoint import load_weights, open_checkpoint, read_tensors, statistics_from_dict
from robot_rl.config import from_mapping
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.latent.model import LatentModel, LatentModelConfig
from robot_rl.spec import Spec
from robot_rl.transfer.guide import SourceSteps

FORMAT_VERSION = 2
STEPS_FILE = "source_steps.safetensors"


@dataclass(frozen=True)
class Teacher:
    """A trained teacher, read back.

    Args:
        model: Frozen.
        sources: Names of its tasks.
        spec: Meaning of observations and actions.
        stats: Frozen observation statistics.
        run: Run folder.
        updates: It has had.
    """

    model: LatentModel
    sources: tuple[str, ...]
    spec: Spec
    stats: ObservationStats
    run: Path
    updates: int

    def source_steps(self, device: str = "cpu") -> SourceSteps:
        """Every step of its sources.

        Raises:
            CheckpointError: If training was not finished, or they are those of another checkpoint.
        """
        if not (self.run / STEPS_FILE).is_file():
            raise CheckpointError(
                f"{self.run} is not trained to its end: {STEPS_FILE} is missing. Go on with "
                f"`robot-rl pretrain teacher --resume --out {self.run}`."
            )
        tensors = read_tensors(self.run / STEPS_FILE)
        made_by = int(tensors.get("updates", torch.tensor(-1)))
        if made_by != self.updates:
            made = f"after {made_by} updates" if made_by >= 0 else "by an earlier version"
            raise CheckpointError(
                f"{self.run / STEPS_FILE} was written {made}, the teacher here has had {self.updates}. Go on with "
                f"`robot-rl pretrain teacher --resume --out {self.run}`, which writes it again, and give the run's "
                f"folder."
            )
        return SourceSteps(*(tensors[name].to(device) for name in SourceSteps._fields))


def load_teacher(path: Path, *, device: str = "cpu") -> Teacher:
    """The teacher of a run or checkpoint folder.

    Raises:
        CheckpointError: If a file is missing, damaged, or is not a teacher's.
    """
    folder, config = open_checkpoint(path, "teacher")
    try:
        if config["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder} has version {config['format_version']}, this program reads {FORMAT_VERSION}. Train the "
                f"teacher again with `robot-rl pretrain teacher`."
            )
        cfg = from_mapping(LatentModelConfig, config["teacher"], f"{folder}: teacher")
        spec, stats = Spec.from_dict(config["spec"]), statistics_from_dict(config["statistics"], folder)
        sources, updates = tuple(map(str, config["sources"])), int(config["updates"])
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: config.json is not usable ({error}). Train again.") from error
    model = LatentModel(cfg, spec.obs_dim, spec.action_dim, len(sources)).to(device)
    load_weights(model, folder)
    return Teacher(model.requires_grad_(False), sources, spec, stats, folder.parents[1], updates)
