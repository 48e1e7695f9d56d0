"""The value of the bootstrap observation: a policy over the next action, and a bonus for taking it. `learn.bellman` has
what each kind of bootstrap makes of them. No gradient flows through any of these."""

import torch
from torch import Tensor


@torch.no_grad()
def greedy_policy(q: Tensor) -> Tensor:
    """One-hot of argmax_a q(s, a), the first of equals. float32 `[..., A]` to the same."""
    return torch.zeros_like(q).scatter(-1, q.argmax(-1, keepdim=True), 1.0)


@torch.no_grad()
def softmax_policy(q: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """pi = softmax(q / temperature) and log pi, float32 `[..., A]` each, from `q` `[..., A]`. The largest q is
    subtracted before dividing, which keeps small differences between large values apart (Vieillard et al. 2020,
    appendix B)."""
    log_pi = torch.log_softmax((q - q.amax(-1, keepdim=True)) / temperature, -1)
    return log_pi.exp(), log_pi


@torch.no_grad()
def state_value(q: Tensor, policy: Tensor, bonus: Tensor | None = None) -> Tensor:
    """sum_a pi(a|s) (q(s, a) + bonus(s, a)). float32 `[..., A]` each to `[...]`."""
    return (policy * (q if bonus is None else q + bonus)).sum(-1)


@torch.no_grad()
def entropy_bonus(log_pi: Tensor, temperature: float) -> Tensor:
    """-temperature log pi, whose mean under pi is temperature times the entropy. float32 `[..., A]`."""
    return -temperature * log_pi


@torch.no_grad()
def munchausen_reward(q_tm1: Tensor, a_tm1: Tensor, temperature: float, alpha: float, clip: float) -> Tensor:
    """alpha [temperature log pi(a|s)] clipped to [clip, 0], to be added to the reward (Vieillard et al. 2020, equation
    1 and section 3). Gives float32 `[B]`.

    Args:
        q_tm1: float32 `[B, A]`, the target network at s.
        a_tm1: int64 `[B]`, the action taken there.
        clip: l_0 < 0, in units of q.
    """
    _, log_pi = softmax_policy(q_tm1, temperature)
    taken = log_pi.gather(-1, a_tm1.unsqueeze(-1)).squeeze(-1)
    return alpha * (temperature * taken).clamp(clip, 0)
