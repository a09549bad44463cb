from pathlib import Path

import pytest

from robot_rl.data.dataset import Dataset, write_dataset
from robot_rl.data.episode import Episode
from robot_rl.spec import Spec
from tests.learning.made import make_episodes, make_spec


@pytest.fixture
def spec() -> Spec:
    return make_spec()


@pytest.fixture
def episodes() -> list[Episode]:
    return make_episodes()


@pytest.fixture
def dataset(tmp_path: Path, spec: Spec, episodes: list[Episode]) -> Dataset:
    return write_dataset(tmp_path / "dataset", spec, episodes, origin="made")
