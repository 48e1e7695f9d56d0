"""Quantile values: QR-DQN (Dabney et al. 2018a) and IQN (Dabney et al. 2018b)."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def quantile_target(values: Tensor, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor) -> Tensor:
    """r + discount sum_a pi_a (z_a + bonus_a), for each quantile (Vieillard et al. 2020, M-IQN). With a one-hot policy
    and no bonus, the target of QR-DQN and IQN. Gives float32 `[B, Z']`, without a gradient.

    Args:
        values: float32 `[B, A, Z']`, quantiles of the bootstrap observation.
        policy: float32 `[B, A]`.
        bonus: float32 `[B, A]` or None.
        reward, discount: float32 `[B]`; n-step returns and discounts fit as they are.
    """
    if bonus is not None:
        values = values + bonus.unsqueeze(-1)
    mixed = (policy.unsqueeze(-1) * values).sum(1)
    return reward.unsqueeze(-1) + discount.unsqueeze(-1) * mixed


def quantile_loss(values: Tensor, tau: Tensor, target: Tensor, kappa: float) -> Tensor:
    """Quantile Huber loss |tau - 1{u < 0}| L_kappa(u) / kappa of all pairs u = target - value, summed over the values
    and averaged over the targets (Dabney et al. 2018a, equation 10; divided by kappa as in 2018b, equation 3, so that
    it tends to the quantile loss |tau - 1{u < 0}| |u|, which kappa = 0 gives). No gradient flows into the target. Gives
    float32 `[B]`.

    Args:
        values: float32 `[B, Z]`, quantiles of the action taken.
        tau: float32 `[B, Z]` in [0, 1], which quantiles they are.
        target: float32 `[B, Z']`.
        kappa: at least 0; errors within +-kappa count squared, beyond it linearly.
    """
    u = target.detach().unsqueeze(1) - values.unsqueeze(2)  # [B, Z, Z']
    size = F.huber_loss(u, torch.zeros_like(u), reduction="none", delta=kappa) / kappa if kappa else u.abs()
    side = (tau.unsqueeze(2) - (u.detach() < 0).to(u)).abs()
    return (side * size).mean(2).sum(1)
