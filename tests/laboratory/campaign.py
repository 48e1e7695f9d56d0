"""Cells of the matrix of faults one after the other, and what became of them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.laboratory.cells import cells
from tests.laboratory.faults import Found, run_cell


def campaign(whom: list[str], number: int, seed: int, console: Console) -> dict[str, Any]:
    """Draws cells of the matrix and prints a line for each, then a table of what took how long."""
    matrix = cells(whom)
    order = np.random.default_rng(seed).permutation(len(matrix))[:number]
    results: dict[str, Found] = {}
    for k, i in enumerate(order):
        with tempfile.TemporaryDirectory(prefix="distdqn-cell-", ignore_cleanup_errors=True) as folder:
            cell, start = matrix[i], time.monotonic()
            found = results[str(cell)] = run_cell(cell, Path(folder))
            how = "[red]" + "; ".join(found.wrong) + "[/]" if found.wrong else "well"
            console.print(f"{k + 1:3} {cell}: codes {found.codes}, {how} ({time.monotonic() - start:.0f} s)")
            if found.wrong:
                console.print(
                    "\n".join(Path(folder, "out").read_text(errors="replace").splitlines()[-12:]), markup=False
                )
    show(results, console)
    return {name: vars(found) for name, found in results.items()}


def show(results: dict[str, Found], console: Console) -> None:
    """Medians of the time until learning went on, and how many cells are well."""
    table = Table("whom, how", "cells", "well", "learning again, median", "greatest", box=None)
    kinds: dict[str, list[Found]] = {}
    for name, found in results.items():
        kinds.setdefault(name.partition(" while")[0], []).append(found)
    for kind, of in sorted(kinds.items()):
        times = [f.recovered for f in of if f.recovered is not None]
        shown = (f"{np.median(times):.1f} s", f"{max(times):.1f} s") if times else ("", "")
        table.add_row(kind, str(len(of)), str(sum(not f.wrong for f in of)), *shown)
    console.print(table)
