import json
from pathlib import Path

import pytest

from tests.laboratory.__main__ import main
from tests.laboratory.memory import Growth, growth


def test_growth_by_hand() -> None:
    # ten looks, a minute apart: a learner that grows by 2 a minute, an actor with an outlier at the end
    looks = [(t, {"learner": 100 + 2 * t, "actor": 50 + 900 * (t == 13.0)}, 7 * t) for t in map(float, range(4, 14))]
    found = growth(looks, shard_bytes=5)
    ends = {"learner": 100 + 2 * 13, "actor": 50 + 900}  # of a fifth, which is two looks, the greater is the median
    assert found.minutes == 9 and found.start == {"learner": 100 + 2 * 5, "actor": 50} and found.end == ends
    assert found.own_slope == pytest.approx(7) and found.own == 7 * 13 and found.shard_bytes == 5
    assert growth(looks[:-1], 0).slope == pytest.approx(2)


def test_a_full_replay_is_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "memory.json"
    config = ["experiment=catch", "engine=local", "replay.min_size=500", "replay.capacity=2000"]
    assert main(["memory", "--minutes=0.02", f"--out={out}", *config]) == 0
    assert "with a full replay" in capsys.readouterr().out
    found = Growth(**json.loads(out.read_text()))
    assert found.minutes >= 0.02 and found.end["process"] >= found.shard_bytes > 0 and set(found.start) == {"process"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["memory", "--minutes", "0"], "--minutes: 0: must be a number above 0"),
        (["memory", "learner.batch=3"], "learner.batch"),
        (["memory", "--seconds", "3"], "--seconds"),
        (["memories"], "memories"),
        ([], "EXPERIMENT"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and named in line
