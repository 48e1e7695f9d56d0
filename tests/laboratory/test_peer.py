import sys

import pytest

from tests.laboratory.__main__ import main
from tests.laboratory.peer import Comparison


def refused(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The one line that it ends with."""
    with pytest.raises(SystemExit) as left:
        main(["peer", *overrides])
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2
    return line


@pytest.mark.parametrize("module", ["stable_baselines3", "cv2"])
def test_a_missing_peer_is_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert "distdqn[bench]" in refused(capsys)


@pytest.mark.parametrize("unequal", ["learner.batch_size=64", "env.frame_size=42", "agent.n_step=3"])
def test_unequal_terms_are_refused(unequal: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("cv2")
    assert unequal in refused(capsys, unequal)


def test_the_ratio_is_to_the_better_form() -> None:
    peer = {"1 environment, 1 thread": [10.0, 20.0, 60.0], "1 environment, 2 threads": [40.0, 40.0, 10.0]}
    found = Comparison([100.0, 80.0, 90.0], peer | {"4 environments, 1 thread": [45.0]}, idle_cpu=0.0)
    assert (found.ratio(1), found.ratio(4)) == (90 / 40, 90 / 45)
