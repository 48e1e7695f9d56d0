"""What the values of options may be."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _checked(convert: Callable[[str], Any], fits: Callable[[Any], bool], allowed: str) -> Callable[[str], Any]:
    """A type for argparse, which says of anything that does not fit what is allowed."""

    def read(text: str) -> Any:
        try:
            if fits(value := convert(text)):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text}: must be {allowed}")

    return read


positive = _checked(int, lambda value: value >= 1, "a whole number of at least 1")
above_zero = _checked(float, lambda value: 0 < value < 1e6, "a number above 0")
weights_file = _checked(Path, lambda path: path.suffix == ".safetensors", "a file's path that ends in .safetensors")
output_file = _checked(
    Path, lambda path: not path.is_dir() and path.absolute().parent.is_dir(), "a file in a folder that exists"
)
