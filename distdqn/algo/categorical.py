"""Categorical values, C51 (Bellemare et al. 2017): probabilities of Z evenly spaced returns, the atoms."""

import torch
from torch import Tensor


@torch.no_grad()
def project(atoms: Tensor, probabilities: Tensor, support: Tensor) -> Tensor:
    """Each atom's probability, split between the two nearest points of the support by how near they are, beyond the
    ends to the end (Bellemare et al. 2017, equation 7 and algorithm 1). Gives float32 `[B, Z]` with the same sum.

    Args:
        atoms: float32 `[B, K]`, where the probabilities lie, in any order.
        probabilities: float32 `[B, K]`.
        support: float32 `[Z]`, evenly spaced, ascending.
    """
    gaps = len(support) - 1
    index = ((atoms - support[0]) / (support[-1] - support[0]) * gaps).clamp(0, gaps)
    # the last point is the far end of the last gap; an atom that is not a number makes its row so, not the index bad
    below = index.nan_to_num(0).floor().clamp(max=gaps - 1)
    upper = probabilities * (index - below)
    lower = probabilities * (1 - (index - below))
    near = below.to(torch.int64)
    empty = probabilities.new_zeros(len(atoms), gaps + 1)
    return empty.scatter_add(1, near, lower).scatter_add(1, near + 1, upper)


@torch.no_grad()
def categorical_target(
    log_p: Tensor, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor, support: Tensor
) -> Tensor:
    """The distribution of r + discount (z + bonus_a), a from the policy, z from action a's distribution, projected onto
    the support. With a one-hot policy and no bonus, C51's target. Gives float32 `[B, Z]`, without a gradient.

    Args:
        log_p: float32 `[B, A, Z]`, log-probabilities of the bootstrap observation.
        policy: float32 `[B, A]`.
        bonus: float32 `[B, A]` or None.
        reward, discount: float32 `[B]`; n-step returns and discounts fit as they are.
        support: float32 `[Z]`.
    """
    joint = policy.unsqueeze(-1) * log_p.exp()
    if bonus is None:  # all actions have their atoms at the same places
        return project(reward.unsqueeze(-1) + discount.unsqueeze(-1) * support, joint.sum(1), support)
    atoms = reward.view(-1, 1, 1) + discount.view(-1, 1, 1) * (support + bonus.unsqueeze(-1))
    return project(atoms.flatten(1), joint.flatten(1), support)


def categorical_loss(log_p_tm1: Tensor, a_tm1: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the taken action's distribution to the target, which is what is minimised (Bellemare et al.
    2017, algorithm 1), and the KL divergence, the same less the target's entropy, which is Rainbow's priority (Hessel
    et al. 2018). No gradient flows into the target, nor from the divergence. Gives float32 `[B]` each.

    Args:
        log_p_tm1: float32 `[B, A, Z]`, log-probabilities.
        a_tm1: int64 `[B]`.
        target: float32 `[B, Z]`, probabilities.
    """
    target = target.detach()
    taken = log_p_tm1.gather(1, a_tm1.view(-1, 1, 1).expand(-1, 1, log_p_tm1.shape[-1])).squeeze(1)
    cross_entropy = -(target * taken).sum(-1)
    entropy = -torch.xlogy(target, target).sum(-1)
    return cross_entropy, (cross_entropy.detach() - entropy).clamp(min=0)
