"""Linear layers whose weights are noisy, so that the network itself explores."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoisyLinear(nn.Module):
    """y = (w + sigma_w * eps_out eps_in^T) x + b + sigma_b * eps_out, with learned w, b, sigma_w and sigma_b.

    Factorised Gaussian noise (Fortunato et al. 2018, section 3): `[..., features]` to `[..., out]`. A layer starts
    silent, that is with eps = 0, until `resample_noise` gives it noise, which is no part of the state_dict. `sigma`:
    sigma_0; every sigma starts at sigma_0 / sqrt(features), every mean uniform in +-1 / sqrt(features).
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, features: int, out: int, sigma: float, bias: bool = True) -> None:
        super().__init__()
        bound = features**-0.5
        self.silent = True
        self.weight = nn.Parameter(torch.empty(out, features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out, features), sigma * bound))
        self.bias = nn.Parameter(torch.empty(out).uniform_(-bound, bound)) if bias else None
        self.bias_sigma = nn.Parameter(torch.full((out,), sigma * bound)) if bias else None
        self.register_buffer("noise_in", torch.zeros(1, features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(1, out), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.linear(x, self.weight, self.bias)
        if self.silent:
            return mean
        # eps_out eps_in^T never becomes a matrix, so that each row can have its own at the price of one product
        spread = F.linear(x * _rows(self.noise_in, x), self.weight_sigma, self.bias_sigma)
        return mean + _rows(self.noise_out, x) * spread


def _rows(noise: Tensor, x: Tensor) -> Tensor:
    """`noise` `[rows, n]` in a shape that broadcasts over all but the first and last dimension of `x`."""
    return noise.view(len(noise), *(1,) * (x.dim() - 2), -1)


@torch.inference_mode(False)  # buffers made in inference mode could not be written to outside of it
def resample_noise(module: nn.Module, rows: int, generator: torch.Generator) -> None:
    """Draws new noise for every noisy layer in `module`, on the generator's device. `rows`: 1, one sample that a whole
    batch shares; or B, one for each row of the next batches."""
    for layer in module.modules():
        if isinstance(layer, NoisyLinear):
            layer.silent = False
            layer.noise_in = _renewed(layer.noise_in, rows, generator)
            layer.noise_out = _renewed(layer.noise_out, rows, generator)


def _renewed(noise: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """f(eps) with f(x) = sign(x) sqrt(|x|) and eps ~ N(0, 1), `[rows, n]`, in place where it fits, so that compiled
    code and CUDA graphs go on reading it."""
    eps = torch.randn(rows, noise.shape[1], generator=generator, device=generator.device)
    if len(noise) != rows:
        noise = noise.new_empty(rows, noise.shape[1])
    return noise.copy_(eps.sign() * eps.abs().sqrt())
