"""Temporal-difference errors and their losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def q_learning(q_tm1: Tensor, a_tm1: Tensor, r_t: Tensor, discount_t: Tensor, v_t: Tensor) -> Tensor:
    """TD error r_t + discount_t v_t - q_tm1[a_tm1]; no gradient flows into the target.

    Args:
        q_tm1: float32 `[B, A]`.
        a_tm1: int64 `[B]`.
        r_t, discount_t, v_t: float32 `[B]`; n-step returns and discounts fit as they are.
    """
    target = (r_t + discount_t * v_t).detach()
    return target - q_tm1.gather(-1, a_tm1.unsqueeze(-1)).squeeze(-1)


def huber(td: Tensor) -> Tensor:
    """Squared within +-1, linear outside: the same gradient as clipping the error to +-1
    (Mnih et al. 2015, methods). Elementwise."""
    return F.smooth_l1_loss(td, td.new_zeros(()).expand_as(td), reduction="none")


def squared(td: Tensor) -> Tensor:
    """Half the squared error, so that the gradient is the error. Elementwise."""
    return 0.5 * td.square()
