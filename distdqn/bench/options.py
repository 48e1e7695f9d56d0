"""What the flags of a measurement may be, apart from it, so that a command line reads them without PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path


def above_zero(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")
    return value


def output_file(text: str) -> Path:
    """A file that may be written."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: must be a file in a folder that exists")
    return path
