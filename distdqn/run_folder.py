"""A run's folder, and the lock by which one process owns it.

`run.lock` is locked with flock where the file system has that. Some network and FUSE file systems refuse it, others say
yes to everybody. So there is a fence, too: each owner writes a nonce of its own into `run.lock`, and looks whether it
is still there before it saves. Who came last owns the folder then, and the other one ends.
"""

import errno
import fcntl
import itertools
import json
import os
import secrets
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path

_LOCK, _CONFIG, _HALF_MADE = "run.lock", "config.yaml", ".config.yaml.tmp"
_LAUNCH = "launch"
"""How it was launched, which is there before the run."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""What flock says where a file system has no locks; the last one an NFS without its lock service."""


class RunFolderError(RuntimeError):
    """A folder that cannot be used; the message is one line that says why and what to do instead."""


class RunFolder:
    """A run's folder, owned by this process until `close` or its death.

    Attributes, all absolute paths:
        path, config (`config.yaml`), metrics (`metrics.jsonl`), checkpoints, videos, summary
        (`summary.json`), tensorboard, wandb. The folders among them exist, but for wandb, which W&B makes.
    """

    def __init__(self, path: Path, config_yaml: str | None) -> None:
        self.path = path
        self.config = path / _CONFIG
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.videos = path / "videos"
        self.summary = path / "summary.json"
        self.tensorboard = path / "tensorboard"
        self.wandb = path / "wandb"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._nonce = secrets.token_hex(8)
            self._lock: int | None = _acquire(path, self._nonce)
            _OPEN.add(self)
            try:
                if config_yaml is not None:
                    _refuse_occupied(path)  # again, now that nobody else can be creating it
                    self.rewrite_config(config_yaml)
                for folder in (self.checkpoints, self.videos, self.tensorboard):
                    folder.mkdir(exist_ok=True)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written ({error.strerror}), choose another run_dir") from error

    @classmethod
    def create(cls, path: str | Path, config_yaml: str) -> "RunFolder":
        """Makes the folder of a new run, with its config, and locks it. Raises `RunFolderError` where the
        folder is in use, holds a run already, or holds anything else."""
        return cls(cls.check(path), config_yaml)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Locks the folder of an earlier run, to go on with it. `RunFolderError` where there is none, or it is in
        use."""
        return cls(cls.check(path, resume=True), None)

    @staticmethod
    def check(path: str | Path, resume: bool = False) -> Path:
        """The absolute path, if `create` (`resume`: `open`) would accept it now; makes nothing, raises
        `RunFolderError`."""
        path = Path(os.path.abspath(Path(path).expanduser()))
        existing = next(p for p in (path, *path.parents) if p.exists())
        if not existing.is_dir():
            raise RunFolderError(f"{existing} is a file, a run needs a folder: choose another run_dir")
        if resume and not (path / _CONFIG).is_file():
            raise RunFolderError(f"{path} holds no run ({_CONFIG} is missing)")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise RunFolderError(f"{existing} is not writable, choose another run_dir")
        _refuse_held(path)
        if not resume:
            _refuse_occupied(path)
        return path

    @staticmethod
    def holds_a_run(path: str | Path) -> bool:
        """Whether there is a run to go on with."""
        return (Path(path) / _CONFIG).is_file()

    @staticmethod
    def next_free(path: str | Path) -> Path:
        """Makes the folder `path`, or the first of PATH-2, PATH-3 and so on that nobody has made. Processes that ask
        for the same one in the same moment get one each. Raises `RunFolderError` where none can be made."""
        for number in itertools.count(1):
            free = Path(path) if number == 1 else Path(f"{path}-{number}")
            try:
                free.mkdir(parents=True)
                return free
            except FileExistsError:
                continue
            except OSError as error:
                raise RunFolderError(f"{free}: cannot be made ({error.strerror}), choose another run_dir") from error
        raise AssertionError(path)

    @property
    def ours(self) -> bool:
        """False once another process has taken the folder, which a file system without working locks lets it do."""
        try:
            return _nonce(self.path) == self._nonce
        except OSError:
            return True  # a file that was tidied away, or cannot be read now, is no other owner

    def refuse_another_owner(self) -> None:
        """Raises `RunFolderError` where the folder is not `ours` any more: what is in it is the other's now."""
        if not self.ours:
            raise RunFolderError(f"{self.path} was taken over by {_who(self.path)}: this one saves nothing more there")

    def rewrite_config(self, config_yaml: str) -> None:
        """Replaces the config, atomically: a resumed run may go on with another budget, say."""
        half_made = self.path / _HALF_MADE
        half_made.write_text(config_yaml, encoding="utf-8")
        os.replace(half_made, self.config)

    def close(self) -> None:
        """Gives the folder back. Harmless when repeated."""
        if self._lock is not None:
            if self.ours:
                os.ftruncate(self._lock, 0)
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_OPEN: weakref.WeakSet[RunFolder] = weakref.WeakSet()


def _drop_in_child() -> None:
    """A forked child shares the lock, and would hold it on after the run's death: it closes its copy."""
    for folder in list(_OPEN):
        if folder._lock is not None:
            os.close(folder._lock)
            folder._lock = None


os.register_at_fork(after_in_child=_drop_in_child)


def _refuse_occupied(path: Path) -> None:
    if not path.is_dir():
        return
    if (path / _CONFIG).is_file() and any((path / n).exists() for n in (_LOCK, "metrics.jsonl", "checkpoints")):
        how = f"`distdqn resume {path}` goes on with it, or choose another run_dir"
        raise RunFolderError(f"{path} already holds a run: {how}")
    if other := {p.name for p in path.iterdir()} - {_LOCK, _HALF_MADE, _LAUNCH}:
        raise RunFolderError(f"{path} is not empty and holds no run (there is {min(other)}): choose another run_dir")


def _acquire(path: Path, nonce: str) -> int:
    """The descriptor of the locked `run.lock`, which says who holds it. The kernel frees it when we die."""
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    try:
        _flock(lock, fcntl.LOCK_EX, path)
        # where two get here at once, the text of the second is whole in the end, whatever the order
        os.ftruncate(lock, os.pwrite(lock, json.dumps({**who, "nonce": nonce}).encode(), 0))
        os.fsync(lock)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _flock(lock: int, how: int, path: Path) -> None:
    """Locks, unless the file system has no locks. Raises `RunFolderError` where another process holds it."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunFolderError(f"{path} is in use by {_who(path)}: stop it or choose another run_dir") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _nonce(path: Path) -> str | None:
    """That of the owner who came last; None where it cannot be made out. Raises `OSError`."""
    try:
        return str(json.loads((path / _LOCK).read_bytes().rstrip(b"\0"))["nonce"])
    except (ValueError, KeyError, TypeError):
        return None


def _refuse_held(path: Path) -> None:
    try:
        lock = os.open(path / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFolderError(f"{path / _LOCK} cannot be read ({error.strerror})") from error
    try:
        _flock(lock, fcntl.LOCK_SH, path)
    except OSError as error:
        raise RunFolderError(f"{path / _LOCK} cannot be locked ({error.strerror})") from error
    finally:
        os.close(lock)


def _who(path: Path) -> str:
    try:
        who = json.loads((path / _LOCK).read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # caught between locking and writing its name
        return "another process"
