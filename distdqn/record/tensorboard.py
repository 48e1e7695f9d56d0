"""Metrics as TensorBoard scalars, over `env_frames`."""

import math
import time
from collections.abc import Mapping
from pathlib import Path


class TensorBoard:
    """Writes event files to `folder`; a resumed run adds another file, which TensorBoard joins to the first. Raises
    `ImportError` where tensorboard is not installed."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder), flush_secs=10)

    def write(self, metrics: Mapping[str, float]) -> None:
        """One event with all finite metrics; its step is `env_frames`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in metrics.items()
            if tag != "env_frames" and math.isfinite(value)
        ]
        step = int(metrics["env_frames"])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Writes what is pending and closes."""
        self._writer.close()
