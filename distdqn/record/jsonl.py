"""`metrics.jsonl`: one JSON object a line, the record of the run that everything else can be rebuilt from."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_BLOCK = 1 << 16


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


def read(path: Path) -> Iterator[dict[str, float]]:
    """The records of a file, oldest first, without nulls and unreadable lines; none without a file. One at a time: ten
    days of them are hundreds of megabytes."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield {k: v for k, v in record.items() if isinstance(v, (int, float))}


def _plain(value: float) -> float | None:
    value = value.item() if hasattr(value, "item") else value
    return value if math.isfinite(value) else None


def _repair(path: Path) -> None:
    """Cuts the file after its last whole line, or ends that line where only its end is missing. Reads from the end."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        start, rest = file.seek(0, os.SEEK_END), b""
        while start and b"\n" not in rest:
            size = min(_BLOCK, start)
            start = file.seek(start - size)
            rest = file.read(size) + rest
        whole = start + rest.rfind(b"\n") + 1
        if not (last := rest[whole - start :]):
            return
        try:
            json.loads(last)
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        except ValueError:
            file.truncate(whole)
