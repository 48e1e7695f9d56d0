"""Every machine of a cluster answers before anything starts on it: what it lacks is one line that names it."""

import hashlib
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distdqn.config import ConfigError, RunConfig
from distdqn.machine import existing, inspect
from distdqn.runtime.engine import Engine, Handle, Needs, NoAnswer
from distdqn.runtime.preflight import GIB, bytes_per_transition, pytorch_uses_gpu, refusal
from distdqn.types import EnvSpec

SECONDS = 60.0
"""Until every machine has answered; each imports the package for it."""
SHARE = 0.9
"""Of the memory that is free, for replay."""


@dataclass(frozen=True)
class Software:
    """What has to be the same everywhere; each shown as it is called."""

    distdqn: str
    Python: str
    Ray: str
    PyTorch: str


@dataclass(frozen=True)
class Report:
    """What a machine says of itself.

    Attributes:
        memory_free: bytes.
        gpu: there is one, and its PyTorch computes on it.
        sees, writes: the file that it was asked for is there; the folder can be written.
    """

    host: str
    software: Software
    memory_free: int
    gpu: bool
    sees: bool
    writes: bool


class Witness:
    """Speaks for the machine that it is on."""

    def report(self, mark: str, folder: str) -> Report:
        """Whether the file `mark` is there, and `folder` or the first that exists above it can be written; empty for
        none that matters."""
        python = ".".join(map(str, sys.version_info[:2]))
        torch = _version("torch").partition("+")[0]  # for a GPU or not
        software = Software(f"{_version('distdqn')} ({_code()})", python, _version("ray"), torch)
        sees, free = not mark or Path(mark).is_file(), inspect().memory_free
        return Report(socket.gethostname(), software, free, pytorch_uses_gpu(), sees, not folder or _writes(folder))


def call_roll(engine: Engine, config: RunConfig, spec: EnvSpec) -> dict[str, Report]:
    """What the machines of `engine` say, by its names for them, this one first. Waits for the slowest.

    Raises:
        ConfigError: a machine has other software, no folder for the journals, or gives no answer; or replay does not
            fit into their memory. One line.
    """
    replay, where = config.replay, f"engine.address={config.engine.address}"
    shared = replay.journal and not replay.journal_dir
    folder = (replay.journal_dir or config.run_dir) if replay.journal else ""
    with _mark(config.run_dir if shared else "") as mark:
        here = Witness().report(mark, folder)
        reports = {"": here, **dict(_answers(engine, mark, folder, where))}
    for there in reports.values():
        for name in (f.name for f in fields(Software)):
            mine, theirs = (getattr(report.software, name) for report in (here, there))
            if mine != theirs:
                raise ConfigError(f"{where}: {there.host} has {name} {theirs}, {here.host} has {mine}")
        if not (there.sees and there.writes):
            key, value = ("replay.journal_dir", replay.journal_dir) if replay.journal_dir else ("run_dir", folder)
            why = "cannot write there" if there.sees else "does not see that folder"
            ways = "replay.journal_dir=DIR names a folder that every machine has, replay.journal=false does without"
            raise refusal(key, value, f"{there.host} {why}, where shards keep their journals; {ways}")
    _check_memory([report.memory_free for report in reports.values()], config, spec)
    return reports


def _answers(engine: Engine, mark: str, folder: str, where: str) -> Iterator[tuple[str, Report]]:
    hosts = {name: room.host for name, room in engine.rooms().items() if name and not room.leaving}
    witnesses: Mapping[str, Handle] = {
        node: engine.start(f"witness-{i}", Needs(cpus=0, node=node), Witness) for i, node in enumerate(hosts)
    }
    try:
        asked = {node: engine.call(handle, "report", mark, folder)[0] for node, handle in witnesses.items()}
        end = time.monotonic() + SECONDS
        for node, answer in asked.items():
            try:
                yield node, engine.fetch(answer, max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise ConfigError(f"{where}: {hosts[node]} gives no answer within {SECONDS:.0f} s") from None
            except NoAnswer as error:
                raise ConfigError(f"{where}: distdqn cannot run on {hosts[node]} ({error})") from None
    finally:
        for handle in witnesses.values():
            engine.kill(handle)


def _check_memory(free: list[int], config: RunConfig, spec: EnvSpec) -> None:
    replay, each = config.replay, bytes_per_transition(config, spec)
    need, most = each * replay.capacity, SHARE * max(free)
    if need > SHARE * sum(free):
        fits = int(SHARE * sum(free) / each / 1000) * 1000
        why = f"needs {need / GIB:.1f} GiB of memory, {sum(free) / GIB:.1f} GiB are free on {len(free)} machines"
        raise refusal("replay.capacity", replay.capacity, f"{why}; {fits} would fit")
    if need / replay.shards > most:
        why = (
            f"each takes {need / replay.shards / GIB:.1f} GiB, no machine has more than {max(free) / GIB:.1f} GiB free"
        )
        raise refusal("replay.shards", replay.shards, f"{why}; {int(need // most) + 1} would fit")


@contextmanager
def _mark(folder: str) -> Iterator[str]:
    """A file in `folder`, or in the first that exists above it, as long as this lasts; none for an empty name."""
    if not folder:
        yield ""
        return
    path = existing(Path(folder)) / f".distdqn-{secrets.token_hex(8)}"
    try:
        path.touch()
    except OSError as error:
        raise refusal("run_dir", folder, f"cannot be written ({error.strerror})") from None
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _writes(folder: str) -> bool:
    with suppress(OSError), tempfile.TemporaryFile(dir=existing(Path(folder))):
        return True
    return False


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that PYTHONPATH names
        return "of no version"


def _code() -> str:
    """A digest of the package's files: two checkouts of one version differ."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]
