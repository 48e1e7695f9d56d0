"""What a run leaves on disk besides its metrics: checkpoints, videos, bad batches, scores."""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from distdqn import checkpoint
from distdqn.config import RunConfig
from distdqn.evaluate.scores import human_normalised
from distdqn.evaluate.video import write_gif
from distdqn.run_folder import RunFolder
from distdqn.types import EnvSpec, Evaluation, Recording, State


class Keeper:
    """Saves for the coordinator.

    Args:
        extra: gives what else belongs into a checkpoint (run id, session, the recorder's state).
        event: called with a line for people. filmed: with the file of each film, in a thread of its own.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        spec: EnvSpec,
        extra: Callable[[], State],
        event: Callable[[str], None],
        filmed: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self.folder, self.config, self.spec, self.extra, self.event = folder, config, spec, extra, event
        self.tell_filmed = filmed
        self.final: dict[str, Any] = {}
        self._protected: str | None = None
        self._filming: Future[Path] | None = None
        self._films, self._saves = ThreadPoolExecutor(1, "video"), ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[str | None] | None = None

    def save(self, learner: State, counters: State, updates: int) -> Future[str | None]:
        """Saves a checkpoint, prunes the older ones, and gives its name, None where the disk refuses: beside training,
        since packing it, its checksums and the disk take a while. `RunFolderError` where another process has taken the
        folder."""
        state = {"learner": learner, "counters": counters, **self.extra()}
        self._saving = self._saves.submit(self._save, state, f"step-{updates:012d}")
        return self._saving

    def _save(self, state: State, name: str) -> str | None:
        self.folder.refuse_another_owner()
        path = self.folder.checkpoints
        try:
            checkpoint.save(path, name, state)
        except checkpoint.CheckpointError as error:
            self.event(str(error))
            return None
        protected = self._protected  # before the best one: `evaluated` marks that first, and then lets go
        best = checkpoint.best(path)
        # the new one too: damaged ones left by an earlier session may have later names
        keep = {n for n in (name, protected, best[0] if best else None) if n}
        checkpoint.prune(path, self.config.checkpoint.keep, keep)
        return name

    def where_a_resume_goes_on(self) -> str:
        """A line for people."""
        names = checkpoint.names(self.folder.checkpoints)
        return f"a resume goes on from {names[-1]}" if names else "nothing was saved: a resume starts anew"

    def newest(self) -> State | None:
        """The learner's state in the newest checkpoint that is whole."""
        if self._saving is not None:
            self._saving.result()
        found = checkpoint.newest_valid(self.folder.checkpoints)
        if found is None:
            return None
        _, state, damaged = found
        for line in damaged:
            self.event(line)
        return state["learner"]

    def best(self) -> Path | None:
        """The folder of the best checkpoint, of the newest where none was evaluated."""
        found, names = checkpoint.best(self.folder.checkpoints), checkpoint.names(self.folder.checkpoints)
        name = found[0] if found else names[-1] if names else None
        return self.folder.checkpoints / name if name else None

    def protect(self, name: str) -> None:
        """Keeps checkpoint `name` until its evaluation has come."""
        self._protected = name

    def evaluated(self, name: str, result: Evaluation, final: bool) -> bool:
        """Takes the evaluation of checkpoint `name`; True where it is the best so far."""
        mean = float(np.mean(result.returns))
        self.event(f"evaluation: {mean:.2f} mean return of {len(result.returns)} episodes")
        if final:
            scores = self.scores(result) | {"episodes": len(result.returns)}
            self.final = {"final_evaluation": {**scores, "returns": list(result.returns), "checkpoint": name}}
        try:
            best = checkpoint.best(self.folder.checkpoints)
            if best is not None and best[1] >= mean:
                return False
            checkpoint.mark_best(self.folder.checkpoints, name, mean)
        except OSError as error:
            self.event(f"the best checkpoint could not be marked: {error}")
        finally:
            self._protected = None
        return True

    def scores(self, result: Evaluation) -> dict[str, float]:
        """The metrics of an evaluation."""
        mean, best = float(np.mean(result.returns)), checkpoint.best(self.folder.checkpoints)
        values = {"eval/return_mean": mean, "eval/best_return": max(mean, best[1]) if best else mean}
        values["eval/return_median"] = float(np.median(result.returns))
        values["eval/length_mean"] = float(np.mean(result.lengths))
        normalized = human_normalised(self.config.env.game, mean) if self.config.env.kind == "atari" else None
        if normalized is not None:
            values["eval/human_normalised"] = normalized
        return values

    def film(self, name: str, recording: Recording) -> None:
        """Writes the video of checkpoint `name`'s game, beside the run."""
        path = self.folder.videos / f"{name}.gif"
        self._filming = self._films.submit(write_gif, recording, self.spec, path, 2)
        self._filming.add_done_callback(self._filmed)

    def _filmed(self, future: Future[Path]) -> None:
        if (error := future.exception()) is not None:
            self.event(f"the video could not be written: {error}")
            return
        self.tell_filmed(future.result())
        videos = sorted(self.folder.videos.glob("step-*.gif"), key=lambda p: p.name)
        for old in videos[: -self.config.checkpoint.keep]:
            old.unlink(missing_ok=True)

    def close(self) -> None:
        """Waits for the checkpoint that is being written."""
        self._saves.shutdown()

    @property
    def busy(self) -> bool:
        """True while a video is being written."""
        return self._filming is not None and not self._filming.done()

    def fault(self, where: str, trace: str) -> None:
        """Adds the traceback of what a component raised to `faults.log`."""
        try:
            with open(self.folder.path / "faults.log", "a", encoding="utf-8") as log:
                log.write(f"{datetime.now().isoformat(' ', 'seconds')} {where}\n{trace.rstrip()}\n\n")
        except OSError as error:
            self.event(f"faults.log could not be written: {error}")

    def keep_bad_batch(self, provenance: dict[str, Any]) -> str:
        """Writes where a batch came from whose loss was not finite, and says where that is."""
        path = self.folder.path / "bad_batch.json"
        columns = ["run", "actor", "slot", "first_step", "weights_version", "offset"]
        try:
            path.write_text(json.dumps({"columns": columns, **provenance}, indent=1) + "\n")
        except OSError as error:
            return f"not written ({error.strerror})"
        return f"in {path}"
