"""What holds for every test."""

from __future__ import annotations

import torch

# The networks of the tests are tiny: threads that wait for each other would cost many times what they compute.
torch.set_num_threads(1)
