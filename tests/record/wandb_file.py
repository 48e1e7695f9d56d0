"""Reads what the W&B client writes offline: the records in a `.wandb` file, LevelDB's log format around protobuf."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The protobuf messages of a file, in order."""
    from wandb.proto import wandb_internal_pb2

    content, at, held = path.read_bytes(), HEAD, b""
    assert content[:4] == b":W&B"
    while at + HEAD <= len(content):
        if BLOCK - at % BLOCK < HEAD:  # too little for a head: the rest of the block is empty
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEAD])
        held += content[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            yield record


@dataclass
class Session:
    """One session of a run: how it is shown, its config, and its history in order."""

    id: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)


def sessions(folder: Path) -> list[Session]:
    """All sessions that lie in a folder `wandb`, in the order in which `wandb sync` takes them."""
    import wandb

    wandb.teardown()  # its service may have something to write still
    return [_session(path) for path in sorted(folder.glob("offline-run-*/*.wandb"))]


def _session(path: Path) -> Session:
    found = Session()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.id, found.group, found.job_type = run.run_id, run.run_group, run.job_type
            found.tags = tuple(run.tags)
            found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "config":
            found.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            found.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            found.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found.artifacts.append(record.request.log_artifact.artifact)
    return found


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)
