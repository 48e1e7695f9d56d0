"""What is kept of a run where the disk is full."""

from __future__ import annotations

import json
from pathlib import Path

from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime.keeper import Keeper

BAD = {"loss": "nan", "grad_norm": "nan", "origin": [[0, 1, 2, 3, 4, 5]]}


def test_the_provenance_of_a_bad_batch_is_written_or_it_is_said_why_not(tmp_path: Path) -> None:
    config = compose(["experiment=catch", "engine=local", f"run_dir={tmp_path / 'run'}"])
    events: list[str] = []
    with RunFolder.create(config.run_dir, "") as folder:
        keeper = Keeper(folder, config, check_env(config.env), dict, events.append)
        path = folder.path / "bad_batch.json"
        assert keeper.keep_bad_batch(BAD) == f"in {path}"
        kept = json.loads(path.read_text())
        assert len(kept["columns"]) == len(kept["origin"][0]) and kept["loss"] == "nan"
        path.unlink()
        path.symlink_to("/dev/full")
        assert keeper.keep_bad_batch(BAD) == "not written (No space left on device)"
        (folder.path / "faults.log").symlink_to("/dev/full")
        keeper.fault("actor-0.packed_rollout", "Traceback")
        keeper.close()
    assert len(events) == 1 and events[0].startswith("faults.log could not be written")
