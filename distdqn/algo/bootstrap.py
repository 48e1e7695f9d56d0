"""The value of the bootstrap observation."""

from __future__ import annotations

from torch import Tensor


def max_q(q_target: Tensor) -> Tensor:
    """max_a Q'(s, a) (Mnih et al. 2015, algorithm 1). `[B, A]` to `[B]`."""
    return q_target.max(-1).values


def double_q(q_target: Tensor, q_online: Tensor) -> Tensor:
    """Q'(s, argmax_a Q(s, a)) (van Hasselt et al. 2016, equation 4). Two `[B, A]` to `[B]`."""
    return q_target.gather(-1, q_online.argmax(-1, keepdim=True)).squeeze(-1)
