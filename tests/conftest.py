"""What every test stands on: the same draws in every run, no limit on how long an example takes, and
no width that a terminal gave to its children.

A test that draws anew each time fails once in a while for somebody who changed nothing. Whoever looks for new
counterexamples asks for them: `pytest --hypothesis-profile explore`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("explore", derandomize=False, deadline=timedelta(seconds=10), max_examples=1000)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Torch's global generator, which networks without a generator of their own draw from."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed wraps by `COLUMNS`, where it is set, and a path that a test looks for may break."""
    monkeypatch.delenv("COLUMNS", raising=False)
