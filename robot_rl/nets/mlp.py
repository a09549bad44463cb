"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    dropout: float = 0.0,
    activation: Callable[[], nn.Module] = _relu,
) -> nn.Sequential:
    """Linear layers with an activation between them, (..., inputs) -> (..., outputs).

    Args:
        inputs: Width of the input.
        hidden: Widths of the hidden layers.
        outputs: Width of the output, which has no activation.
        dropout: Share of hidden units silenced in training, in [0, 1).
        activation: Makes what follows each hidden layer; ReLU unless said.
    """
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers += [nn.Linear(width, size), activation()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = size
    layers.append(nn.Linear(width, outputs))
    return nn.Sequential(*layers)


class ValueNet(nn.Module):
    """State value V(s), (B, S) -> (B,)."""

    def __init__(self, obs_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, 1)

    def forward(self, obs: Tensor) -> Tensor:
        """V(s), (B,)."""
        return self.net(obs).squeeze(-1)
