"""The matrix of faults is whole, and a run of it is looked at as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.laboratory.__main__ import main
from tests.laboratory.cells import KINDS, WHENS, Cell, cells
from tests.laboratory.faults import run_cell


def test_the_matrix_has_every_cell_once() -> None:
    matrix = cells()
    assert len(set(matrix)) == len(matrix)
    assert {c.whom for c in cells(["shard", "raylet"])} == {"shard", "raylet"}
    assert {c.whom for c in cells(["memory"])} == set(KINDS) and {c.when for c in cells(["shard"])} == set(WHENS)


@pytest.mark.slow
def test_a_driver_killed_while_it_saves_goes_on_where_it_was(tmp_path: Path) -> None:
    found = run_cell(Cell("driver", "SIGKILL", "saving"), tmp_path)
    assert found.wrong == [] and found.codes == [-9, 3]
    assert found.accounts["stored"] > 0 and found.recovered is not None


@pytest.mark.parametrize("arguments", [["faults", "nobody"], ["faults", "seed=x"], ["soak", "seeds=3"]])
def test_what_is_asked_wrongly_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and arguments[1] in line
