"""What common options of learners and world models may be, checked before anything is built or written.

A value outside would come back as a fault inside PyTorch, as a division by zero after the first update, or, as a
discount above 1 does, as a run that diverges hours later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from robot_rl.errors import ConfigError

Allowed = tuple[Callable[[Any], bool], str]
_SHARE: Allowed = (lambda x: 0 <= x < 1, "must lie in [0, 1)")
_ABOVE: Allowed = (lambda x: 0 < x < float("inf"), "must be above 0")
_COUNT: Allowed = (lambda x: x >= 1, "must be at least 1")
_NOISE: Allowed = (lambda x: 0 <= x < float("inf"), "must be 0 or more")
_WIDTHS: Allowed = (lambda x: len(x) > 0 and all(n >= 1 for n in x), "must be one width or more, each at least 1")
RANGES: dict[str, Allowed] = {
    "discount": _SHARE,
    "dropout": _SHARE,
    "ema": _SHARE,
    "tau": (lambda x: 0 < x <= 1, "must lie in (0, 1]"),
    "lr": _ABOVE,
    "first_std": (lambda x: x is None or 0 < x < float("inf"), "must be above 0"),
    "weight_decay": _NOISE,
    "exploration": _NOISE,
    "batch_size": _COUNT,
    "critics": _COUNT,
    "policy_delay": _COUNT,
    "actor_every": _COUNT,
    "target_every": _COUNT,
    "horizon": _COUNT,
    "hidden": _WIDTHS,
    "actor_hidden": _WIDTHS,
    "critic_hidden": _WIDTHS,
    "encoder_hidden": _WIDTHS,
    "transition_hidden": _WIDTHS,
    "decoder_hidden": _WIDTHS,
    "head_hidden": _WIDTHS,
    "epochs": _COUNT,
    "patience": _COUNT,
}


def require_ranges(cfg: Any, name: str) -> None:
    """Refuse a config with a value that nothing can work with.

    Args:
        cfg: Of a learner or world model.
        name: Ahead of its options on the command line, such as "agent".

    Raises:
        ConfigError: Naming option, value and range.
    """
    for field in dataclasses.fields(cfg):
        allowed, words = RANGES.get(field.name, (None, ""))
        value = getattr(cfg, field.name)
        if allowed is not None and not allowed(value):
            raise ConfigError(f"--{name}.{field.name.replace('_', '-')} is {value}; it {words}.")
