"""From observations to embeddings and back: layers for vectors, convolutions for pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.nets.mlp import mlp

SIDE = 64  # pixels; four halving convolutions lead to 4 x 4
DEPTH = 32  # channels of the first convolution


def elu_mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """`mlp` with ELU, as the papers on latent world models have it."""
    return mlp(inputs, hidden, outputs, activation=nn.ELU)


class PictureEncoder(nn.Module):
    """A flat picture, channels first, and a context to an embedding, (..., C*64*64 + K) -> (..., E).

    Args:
        channels: Of the picture.
        context: Width K of the context behind it.
        outputs: E.
    """

    def __init__(self, channels: int, context: int, outputs: int) -> None:
        super().__init__()
        self.channels, self.context = channels, context
        widths = [channels, DEPTH, 2 * DEPTH, 4 * DEPTH, 8 * DEPTH]
        layers: list[nn.Module] = []
        for one, two in itertools.pairwise(widths):
            layers += [nn.Conv2d(one, two, 4, stride=2, padding=1), nn.ELU()]
        self.net = nn.Sequential(*layers, nn.Flatten())
        self.out = nn.Linear(8 * DEPTH * 16 + context, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The embedding."""
        size = self.channels * SIDE * SIDE
        picture, context = x.split([size, self.context], -1)
        features = self.net(picture.reshape(-1, self.channels, SIDE, SIDE)).unflatten(0, x.shape[:-1])
        return self.out(torch.cat([features, context], -1))


class PictureDecoder(nn.Module):
    """A state to a flat picture, (..., F) -> (..., C*64*64)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, 8 * DEPTH * 16)
        widths = [8 * DEPTH, 4 * DEPTH, 2 * DEPTH, DEPTH, channels]
        layers: list[nn.Module] = []
        for one, two in itertools.pairwise(widths):
            layers += [nn.ELU(), nn.ConvTranspose2d(one, two, 4, stride=2, padding=1)]
        self.net = nn.Sequential(*layers)

    def forward(self, state: Tensor) -> Tensor:
        """The picture."""
        pictures = self.net(self.into(state).reshape(-1, 8 * DEPTH, 4, 4))
        return pictures.flatten(1).unflatten(0, state.shape[:-1])


def make_codec(
    observations: int, context: int, embed: int, states: int, *, hidden: Sequence[int], channels: int
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder.

    Args:
        observations: S.
        context: Width of the context that the encoder sees behind the observation.
        embed: E.
        states: Width of the latent state.
        hidden: Layers, for vectors.
        channels: Of pictures; 0 for vectors.

    Raises:
        ConfigError: If observations are not such pictures.
    """
    if not channels:
        return elu_mlp(observations + context, hidden, embed), elu_mlp(states, hidden, observations)
    if observations != channels * SIDE * SIDE:
        raise ConfigError(
            f"image_channels is {channels}, so observations must be {channels} x {SIDE} x {SIDE} = "
            f"{channels * SIDE * SIDE} numbers, but they have {observations}. Leave it at 0 for state vectors."
        )
    return PictureEncoder(channels, context, embed), PictureDecoder(states, channels)
