"""Checkpoints: atomic save, verified load, newest valid, prune. No pickles.

A checkpoint is a folder of three files:

    arrays.safetensors  every NumPy array, under its slash-joined path
    state.json          everything else, with `{"__array__": path}` where an array was
    manifest.json       size and SHA-256 of the other two

It is written to a hidden folder beside its place, synced to disk and renamed, so a reader sees the whole of
it or nothing. One process writes to a folder of checkpoints at a time (see `run_folder`).
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from distdqn.types import State

ARRAYS, STATE, MANIFEST, BEST = "arrays.safetensors", "state.json", "manifest.json", "best.json"
_PLACEHOLDER = "__array__"
_FORMAT = 1
_TEMPORARY, _ASIDE = ".tmp-", ".old-"
# Marks this process's temporary folders: cleaning up spares a save that is under way in another thread.
_OWN = secrets.token_hex(4)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message is one line that says which and why."""


def save(folder: Path, name: str, state: State) -> Path:
    """Writes `state` as checkpoint `name` in `folder` and gives its path.

    `state` holds nested dicts with text keys, lists, numbers, strings, None, bools and NumPy arrays (bool, integer,
    float or complex64; 0-d too). Tuples come back as lists and NumPy scalars as Python numbers; everything else comes
    back bit for bit. Names must sort in the order of time. An older checkpoint of that name is replaced. Raises
    `TypeError` naming the path of a value that cannot be stored, `CheckpointError` if the disk refuses.
    """
    from safetensors.numpy import save as pack

    if not name or name.startswith(".") or "/" in name:
        raise ValueError(f"{name!r} cannot be a checkpoint's name")
    arrays: dict[str, np.ndarray] = {}
    plain = _split(state, (), arrays)
    contents = {ARRAYS: pack(arrays), STATE: json.dumps(plain).encode()}
    sums = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    contents[MANIFEST] = json.dumps({"format": _FORMAT, "files": sums}, separators=(",", ":")).encode()
    temporary, target = _temporary(folder, name), folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        for file, content in contents.items():
            _write(temporary / file, content)
        _sync(temporary)
        aside = folder / f"{_ASIDE}{name}"
        if target.exists():
            os.rename(target, aside)  # `recover` puts it back where the next line is not reached
        os.rename(temporary, target)
        _sync(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{target}: not written ({error.strerror or error})") from error
    _clean(folder)
    return target


def load(path: Path) -> State:
    """The state that `save` stored at `path`, with writable arrays. Raises `CheckpointError` if a file is missing or
    differs from the manifest in size or SHA-256."""
    from safetensors.numpy import load as unpack

    contents = {file: _read(path, file) for file in (MANIFEST, ARRAYS, STATE)}
    try:
        manifest = json.loads(contents[MANIFEST])
        if manifest["format"] != _FORMAT:
            raise CheckpointError(f"{path}: {MANIFEST} has a format that this version does not read")
        expected = [(f, manifest["files"][f]["bytes"], manifest["files"][f]["sha256"]) for f in (ARRAYS, STATE)]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {MANIFEST} is damaged") from error
    for file, size, digest in expected:
        if len(contents[file]) != size:
            raise CheckpointError(f"{path}: {file} has {len(contents[file])} bytes instead of {size}")
        if hashlib.sha256(contents[file]).hexdigest() != digest:
            raise CheckpointError(f"{path}: {file} is damaged, its SHA-256 differs from the manifest's")
    try:
        return _join(json.loads(contents[STATE]), unpack(contents[ARRAYS]))
    except Exception as error:  # the hashes match, so whatever the parser says, this version cannot read it
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def names(folder: Path) -> list[str]:
    """Names of the checkpoints in `folder`, oldest first, whether valid or not."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def recover(folder: Path) -> None:
    """Puts back what a killed writer had put aside for a successor of the same name that did not come. For the one
    process that writes there."""
    for aside in folder.glob(_ASIDE + "*"):
        target = folder / aside.name.removeprefix(_ASIDE)
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(aside, target)


def newest_valid(folder: Path) -> tuple[Path, State, list[str]] | None:
    """Path and state of the newest checkpoint that loads, if any, and a line for each newer one that is damaged."""
    damaged: list[str] = []
    for name in reversed(names(folder)):
        try:
            return folder / name, load(folder / name), damaged
        except CheckpointError as error:
            damaged.append(str(error))
    return None


def prune(folder: Path, keep: int, spare: Collection[str] = ()) -> list[str]:
    """Removes all but the newest `keep` checkpoints and those named in `spare`; gives the names removed. Folders that a
    killed writer left behind go too."""
    if keep < 1:
        raise ValueError(f"keep={keep}: must be at least 1")
    removed = [name for name in names(folder)[:-keep] if name not in spare]
    for name in removed:
        _remove(folder / name)
    _clean(folder)
    return removed


def mark_best(folder: Path, name: str, score: float) -> None:
    """Records atomically that checkpoint `name` is the best so far, with its score."""
    temporary = _temporary(folder, BEST)
    _write(temporary, json.dumps({"name": name, "score": float(score)}).encode())
    os.replace(temporary, folder / BEST)
    _sync(folder)


def best(folder: Path) -> tuple[str, float] | None:
    """Name and score of the best checkpoint, or None where none is recorded or it is no longer there."""
    try:
        record = json.loads((folder / BEST).read_bytes())
        name, score = str(record["name"]), float(record["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (name, score) if (folder / name).is_dir() else None


def _split(value: Any, path: tuple[str, ...], arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        if (value.dtype.kind not in "biuf" and value.dtype != np.complex64) or value.dtype.itemsize > 8:
            raise TypeError(f"{'/'.join(path)}: an array of {value.dtype} cannot be stored")
        # A key may hold a slash itself: escaped as in JSON pointers, so that no two paths meet.
        name = "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        arrays[name] = native if native.flags.c_contiguous else native.copy(order="C")
        return {_PLACEHOLDER: name}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == _PLACEHOLDER:
                raise TypeError(f"{'/'.join((*path, str(key)))}: {key!r} cannot be a key, which must be text")
        return {key: _split(item, (*path, key), arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(item, (*path, str(i)), arrays) for i, item in enumerate(value)]
    raise TypeError(f"{'/'.join(path)}: a {type(value).__name__} cannot be stored")


def _join(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _PLACEHOLDER in value:
            return arrays[value[_PLACEHOLDER]]
        return {key: _join(item, arrays) for key, item in value.items()}
    return [_join(item, arrays) for item in value] if isinstance(value, list) else value


def _temporary(folder: Path, name: str) -> Path:
    return folder / f"{_TEMPORARY}{_OWN}-{secrets.token_hex(4)}-{name}"


def _remove(path: Path) -> None:
    """Takes a checkpoint away in one step, so that a kill half-way leaves no damaged one behind."""
    temporary = _temporary(path.parent, path.name)
    os.rename(path, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _clean(folder: Path) -> None:
    for path in {*folder.glob(f"{_TEMPORARY}*")} - {*folder.glob(f"{_TEMPORARY}{_OWN}*")}:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _read(path: Path, file: str) -> bytes:
    try:
        return (path / file).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {file} cannot be read ({error.strerror})") from error


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Makes the folder's entries themselves survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
