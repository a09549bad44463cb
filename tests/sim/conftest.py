from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot_rl.envs import Env, make_env

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[..., Env]]:
    """Makes each environment once a module: robosuite takes seconds."""
    cache: dict[str, Env] = {}

    def make(env_id: str) -> Env:
        if env_id not in cache:
            cache[env_id] = make_env(env_id)
        return cache[env_id]

    yield make
    for env in cache.values():
        env.close()


@pytest.fixture
def shared_data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the shared sample data is not beside the checkout")
    return DATA
