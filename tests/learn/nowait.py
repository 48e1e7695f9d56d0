"""Whether something runs without the host ever having to know what a tensor holds."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoWait(TorchDispatchMode):
    """Raises where the host would have to know what a tensor holds; counts the operations that a device would do."""

    FORBIDDEN = (
        *("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "repeat_interleave", "bincount"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
    )
    INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.FORBIDDEN or (
            name in self.INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        ):
            raise AssertionError(f"{name} waits for the device")
        self.operations += not func.is_view
        return func(*args, **(kwargs or {}))
