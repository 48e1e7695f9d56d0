"""The scale on which values of any size can be learned (Pohlen et al. 2018)."""

from torch import Tensor


def h(x: Tensor, epsilon: float) -> Tensor:
    """sign(x) (sqrt(|x| + 1) - 1) + epsilon x (Pohlen et al. 2018, proposition A.2). Elementwise.

    Written with sqrt(y + 1) - 1 = y / (sqrt(y + 1) + 1), which loses no digits near 0.
    """
    return x / ((x.abs() + 1).sqrt() + 1) + epsilon * x


def h_inverse(x: Tensor, epsilon: float) -> Tensor:
    """The y with h(y) = x (Pohlen et al. 2018, proposition A.2). Elementwise.

    With t = sqrt(|y| + 1) - 1, |x| = t + epsilon (t^2 + 2 t). Its root, in the form that subtracts nothing, keeps
    the precision of float32 for values near 0 and in the millions, where the paper's formula loses it.
    """
    b = 1 + 2 * epsilon
    t = 2 * x / (b + (b**2 + 4 * epsilon * x.abs()).sqrt())
    return t * (t.abs() + 2)
