"""`metrics.jsonl`: one JSON object a line, the record of the run that everything else can be rebuilt from."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


class JsonLines:
    """Appends records to a file. What a killed writer left unfinished on the last line is cut off on opening. Raises
    `OSError` where the file cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _repair(path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, it stays open

    def write(self, metrics: Mapping[str, float]) -> None:
        """Appends one line and hands it to the system. A number that is not finite becomes null."""
        plain = {k: _plain(v) for k, v in metrics.items()}
        self._file.write(json.dumps(plain, allow_nan=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Syncs to disk and closes."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def read(path: Path) -> list[dict[str, float]]:
    """The records of a file, oldest first, without nulls and unreadable lines; none without a file."""
    if not path.is_file():
        return []
    records = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append({k: v for k, v in record.items() if isinstance(v, (int, float))})
    return records


def _plain(value: float) -> float | None:
    value = value.item() if hasattr(value, "item") else value
    return value if math.isfinite(value) else None


def _repair(path: Path) -> None:
    """Cuts the file after its last whole line, or ends that line where only its end is missing."""
    content = path.read_bytes() if path.exists() else b""
    whole, rest = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    if not rest:
        return
    try:
        json.loads(rest)
        with open(path, "ab") as file:
            file.write(b"\n")
    except ValueError:
        os.truncate(path, len(whole))
