"""Which source task resembles the target now: time-varying weights, and the distillation they steer
(Vid2Act, arXiv 2306.03360).

    w_k(t)  = softmax_k(Linear([f_k, f]))            f_k: the teacher's state with task k, f: the student's
    w~_k    = max(floor, w_k)                         no source is dropped for good
    L       = sum_k mean_t w~_k |D f_k - f|^2 / dim   D: one linear layer for all sources

f_k carries no gradient. Nor does f where it enters w: the weights shall follow the states, not bend them. Against the
paper's sum over an unweighted mean nothing else is changed.

So trained, a weight says whose states are the easiest to imitate, which need not be whose task it is. In their place
("predicted", ours):

    target_k(t) = softmax_k(-e_k(t))                  e_k: how wrong the teacher with task k was about step t, in nats
    L_w         = -sum_k target_k(t) log w_k(t)       the weights learn whose model explains what is seen

and the distillation takes w as given. The target is the posterior over the sources after one step, all equally likely
before.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["learned", "predicted", "uniform"]
TINY = 1e-8  # below any weight that counts


class Similarity(nn.Module):
    """Weights of K sources, and the projection of their states to the student's.

    Args:
        teacher: Width of f_k.
        student: Width of f.
        sources: K.
        kind: How weights come about: "learned" by the distillation, "predicted" by whose model explains what is seen,
            or "uniform", always 1/K: the baseline that selects nothing.
        floor: Smallest weight in the loss, in [0, 1].
    """

    def __init__(self, teacher: int, student: int, sources: int, *, kind: Kind, floor: float) -> None:
        super().__init__()
        self.sources, self.kind, self.floor = sources, kind, floor
        self.project = nn.Linear(teacher, student)
        self.score = nn.Linear(teacher + student, 1)

    def weights(self, theirs: Tensor, own: Tensor) -> Tensor:
        """w_k, (..., K, F'), (..., F) -> (..., K), with gradients for the scores alone."""
        if self.kind == "uniform":
            return theirs.new_full(theirs.shape[:-1], 1.0 / self.sources)
        seen = own.detach().unsqueeze(-2).expand(*theirs.shape[:-1], own.shape[-1])
        return self.score(torch.cat([theirs.detach(), seen], -1)).squeeze(-1).softmax(-1)

    def loss(self, theirs: Tensor, own: Tensor, there: Tensor, surprise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The distillation over sequences, and the weights' own loss where they have one.

        Args:
            theirs: (T, B, K, F').
            own: (T, B, F), with gradients where the student shall be moved.
            there: (T, B), which states there are.
            surprise: e_k, (T, B, K), for weights that are "predicted".

        Returns:
            The loss, and the mean weight of each source, (K,).
        """
        w = self.weights(theirs, own)  # (T, B, K)
        gap = (self.project(theirs.detach()) - own.unsqueeze(-2)).square().mean(-1)
        total = there.sum().clamp_min(1.0)
        steering = w if surprise is None else w.detach()
        each = (steering.clamp_min(self.floor) * gap).sum(-1)
        if surprise is not None:
            each = each - ((-surprise).softmax(-1) * w.clamp_min(TINY).log()).sum(-1)
        loss = (each * there).sum() / total
        mean = (w.detach() * there.unsqueeze(-1)).sum((0, 1)) / total
        return loss, mean
