"""Losses of temporal-difference errors."""

import torch.nn.functional as F
from torch import Tensor


def huber(td: Tensor) -> Tensor:
    """Squared within +-1, linear outside: the same gradient as clipping the error to +-1
    (Mnih et al. 2015, methods). Elementwise."""
    return F.smooth_l1_loss(td, td.new_zeros(()).expand_as(td), reduction="none")


def squared(td: Tensor) -> Tensor:
    """Half the squared error, so that the gradient is the error. Elementwise."""
    return 0.5 * td.square()
