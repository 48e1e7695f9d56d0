"""Sweeps: by Hydra's own sweeper for whoever does not run them, and by launchers and sweepers of other people."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import _Job
from distdqn.config.sweep import combinations

ELSEWHERE = """
import sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
import cloudpickle
from distdqn.config.keys import conf_dir

job = cloudpickle.loads(Path(sys.argv[1]).read_bytes())
with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
    values = hydra.compose("config", ["experiment=catch", "++seed=7"], return_hydra_config=True)
HydraConfig.instance().set_config(values)
del values.__dict__["_content"]["hydra"]
print(job(values))
"""


def test_all_combinations_in_hydras_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = combinations(["experiment=catch,cartpole", "seed=range(2)", "note=x"])
    assert not list(tmp_path.iterdir())
    assert sweep.folder.parents[1] == tmp_path / "multirun"
    found = [(config.name, config.seed, texts) for texts, config in sweep.runs]
    keys = [[f"experiment={e}", f"seed={s}", "note=x"] for e in ("catch", "cartpole") for s in (0, 1)]
    assert found == [(e[0].partition("=")[2], int(e[1][-1]), e) for e in keys]
    assert [config.run_dir for _, config in sweep.runs] == [
        f"{sweep.folder}/{i}/{name}" for i, name in enumerate(("catch", "catch", "cartpole", "cartpole"))
    ]
    group = "-".join(sweep.folder.parts[-2:])
    assert {config.track.group for _, config in sweep.runs} == {group}
    (_, config), *_ = combinations(["experiment=catch", "seed=1,2", "track.group=mine"]).runs
    assert config.track.group == "mine"
    assert not any(config.named_by_chance for _, config in sweep.runs) and str(sweep.folder) in sweep.yaml


def test_what_is_wrong_with_one_of_them_is_raised() -> None:
    with pytest.raises(ConfigError, match="seed=-1: must be"):
        combinations(["experiment=catch", "seed=1,-1"])
    with pytest.raises(ConfigError, match="run_dir: each run of a sweep"):
        combinations(["experiment=catch", "seed=1,2", "run_dir=here"])


def test_a_job_runs_in_another_process_and_gives_its_score(tmp_path: Path) -> None:
    import cloudpickle  # Gymnasium brings it

    def run(config: Callable[[], RunConfig]) -> tuple[int, float | None]:
        return 0, config().seed + 0.5

    def elsewhere(job: _Job) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "job"
        path.write_bytes(cloudpickle.dumps(job))
        return subprocess.run([sys.executable, "-c", ELSEWHERE, str(path)], capture_output=True, text=True)

    assert elsewhere(_Job(run, ["experiment=catch", "seed=1,7"], True)).stdout == "7.5\n"
    stopped = elsewhere(_Job(lambda config: (3, None), [], True))
    assert stopped.returncode == 1 and stopped.stderr.splitlines()[-1] == "distdqn.config.compose._Ended: 3"
