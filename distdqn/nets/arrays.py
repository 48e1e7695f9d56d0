"""Parameters and buffers of a module as NumPy arrays by name: what travels between processes and lies on disk."""

import numpy as np
import torch
from torch import nn


class ArrayModule(nn.Module):
    """A module that gives and takes its parameters and buffers as arrays."""

    key = "agent.network"
    """The settings that decide what they are, for the error where they do not fit."""

    def arrays(self) -> dict[str, np.ndarray]:
        """A copy of the parameters and buffers by name, on the CPU."""
        own = self.state_dict()
        floats = [x for x in own.values() if x.dtype == torch.float32]
        if not (floats and floats[0].is_cuda):
            return {name: value.detach().cpu().numpy().copy() for name, value in own.items()}
        # one copy from the device for all: each waits for whatever the device has been asked to do
        whole, at, arrays = torch.cat([x.detach().flatten() for x in floats]).cpu().numpy(), 0, dict[str, np.ndarray]()
        for name, value in own.items():
            if value.dtype == torch.float32:
                arrays[name] = whole[at : at + value.numel()].reshape(value.shape)
                at += value.numel()
            else:
                arrays[name] = value.cpu().numpy()
        return arrays

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` of the same module gave. Raises `ValueError`: other names or shapes, so the settings
        under `key` were others."""
        own = self.state_dict()
        if own.keys() != arrays.keys() or any(own[k].shape != arrays[k].shape for k in own):
            raise ValueError(f"these weights belong to another network: {self.key} or the environment differs")
        with torch.no_grad():
            for name, value in own.items():
                # the arrays may be read-only views of shared memory, which from_numpy warns about
                value.copy_(torch.from_numpy(np.array(arrays[name])))
