"""Where learning runs, and by which library its products are computed there."""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import torch

from robot_rl.errors import ConfigError

_log = logging.getLogger(__name__)

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName) -> str:
    """The torch device for `--device`.

    Raises:
        ConfigError: If CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda, but this torch sees no CUDA device. Use --device cpu or auto.")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Let a generator go on from a saved state.

    A CPU's state says nothing to a CUDA generator, nor the other way round: on the other kind of device the generator
    stays as it was seeded, and a run goes on with other random numbers than it would have had.
    """
    if state.numel() == generator.get_state().numel():
        generator.set_state(state.cpu())
    else:
        _log.info("the random numbers were drawn on another kind of device; on this one they begin with the seed")


@contextmanager
def fast_products(device: torch.device) -> Generator[None]:
    """Have oneDNN compute products of float32 matrices meanwhile, on a CPU where it is as exact as MKL.

    Torch asks MKL, which on AMD's processors leaves half of what they can do unused (80 of 160 GFLOPS on the core
    this was measured on). Torch's word for the other road is "medium" precision, because oneDNN may then round to
    bfloat16; where it does, it is left alone. Products with one row are faster in MKL: act outside of this.
    """
    before = torch.get_float32_matmul_precision()
    if device.type != "cpu" or before != "highest" or not _onednn_is_exact():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def _onednn_is_exact() -> bool:
    """Whether a product at "medium" precision errs about as little as at "highest"."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 256, 256, generator=generator)
    exact = a.double() @ b.double()
    errors: dict[Literal["medium", "highest"], float] = {}
    for precision in ("medium", "highest"):
        torch.set_float32_matmul_precision(precision)
        errors[precision] = float((a @ b - exact).abs().max())
    return errors["medium"] < 4 * errors["highest"]
