from pathlib import Path

import pytest

from robot_rl.data.dataset import Dataset, write_dataset
from tests.world_models.made import drifting_episodes, drifting_spec


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "dataset", drifting_spec(), drifting_episodes(), origin="drifting")
