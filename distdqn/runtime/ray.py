"""The components as Ray actors. The only file that imports Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distdqn.config import ConfigError
from distdqn.runtime.engine import ComponentLost, DataLost, Handle, Needs, Ref

# Before Ray is imported: it reads them once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let anything else on the machine go first
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

if (Path.home() / ".ray" / "auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # else a cluster named by host and port refuses us

import ray
import ray.exceptions as errors

_LOST = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.LocalRayletDiedError)
_DATA = (errors.ObjectLostError, errors.OwnerDiedError, errors.ObjectFetchTimedOutError)


class RayEngine:
    """Runs each component in a process of its own. See `engine.Engine`.

    Args:
        address: a cluster to join; None starts one on this machine that ends with the engine.
        cpus: logical CPUs of a cluster started here, at least what the components ask for together.
        object_store_bytes: shared memory of a cluster started here, for what is on its way.
    """

    def __init__(self, address: str | None, cpus: int, gpus: int, object_store_bytes: int) -> None:
        options: dict[str, Any] = {}
        if address is None:
            options = {
                "num_cpus": cpus,
                "num_gpus": gpus,
                "object_store_memory": object_store_bytes,
                "include_dashboard": False,
            }
        old = os.umask(0o077)  # Ray writes its token file with the umask at hand
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except (ConnectionError, ValueError, TimeoutError) as error:
            if address is None:
                raise
            line = str(error).strip().splitlines()[0]
            raise ConfigError(f"engine.address={address}: no Ray cluster can be joined there ({line})") from None
        finally:
            os.umask(old)
        if address is not None:
            self._check_room(address, cpus, gpus)
        self._actors: dict[str, tuple[Handle, Any]] = {}
        self._own = address is None

    def _check_room(self, address: str, cpus: int, gpus: int) -> None:
        """A component that no machine has room for would wait for ever."""
        there = ray.cluster_resources()
        for kind, asked in (("CPU", cpus), ("GPU", gpus)):
            if there.get(kind, 0) < asked:
                ray.shutdown()
                raise ConfigError(
                    f"engine.address={address}: the run asks for {asked} {kind}s, that cluster has "
                    f"{there.get(kind, 0):g}; lower actors.count or add machines"
                )

    def start(self, name: str, needs: Needs, build: Callable[..., Any], *args: Any) -> Handle:
        life = self._actors[name][0].life + 1 if name in self._actors else 0
        options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_restarts": 0}
        if needs.spread:
            options["scheduling_strategy"] = "SPREAD"
        handle = Handle(name, life)
        self._actors[name] = (handle, ray.remote(_process(build, needs.yields)).options(**options).remote(*args))
        return handle

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        current, actor = self._actors[handle.name]
        if current != handle:
            raise ComponentLost(f"{handle.name}: this life of it is over")
        refs = getattr(actor, method).options(num_returns=returns).remote(*args)
        return tuple(refs) if returns > 1 else (refs,)

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        if not refs:
            return []
        # fetch_local=False: a large result need not travel to this machine to be handed on
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=timeout, fetch_local=False)
        if ready and len(refs) > 1:
            ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0, fetch_local=False)
        return list(ready)

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        try:
            return ray.get(ref, timeout=timeout)
        except errors.GetTimeoutError:
            raise TimeoutError(f"no answer within {timeout:.0f} s") from None
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(getattr(error, "cause", None), BaseException) else error
            if isinstance(cause, _DATA + _LOST):
                raise DataLost(_line(cause)) from error
            raise error.as_instanceof_cause() from None
        except _DATA as error:
            raise DataLost(_line(error)) from error
        except _LOST as error:
            raise ComponentLost(_line(error)) from error

    def put(self, value: Any) -> Ref:
        return ray.put(value)

    def kill(self, handle: Handle) -> None:
        current, actor = self._actors[handle.name]
        if current == handle:
            ray.kill(actor)

    def pid(self, handle: Handle) -> int:
        pid: int = ray.get(self._actors[handle.name][1].process_id.remote())
        return pid

    def close(self) -> None:
        if self._own:
            for _, actor in self._actors.values():
                ray.kill(actor)  # Ray would wait for them to leave, which takes seconds on a busy machine
        self._actors.clear()
        ray.shutdown()


def _line(error: BaseException) -> str:
    """What happened and, of a constructor that failed, its own words: the first line and the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"


YIELDING = 10
"""Niceness of a process that lets others go first."""


def _process(build: Callable[..., Any], yields: bool) -> type:
    """The class `build` with a method that tells its process id, in a process of a lower priority if it `yields`."""
    if not isinstance(build, type):
        raise TypeError("a Ray component is made by its class")

    def process_id(self: Any) -> int:
        return os.getpid()

    def begin(self: Any, *args: Any) -> None:
        if yields:
            os.nice(YIELDING)
        build.__init__(self, *args)  # type: ignore[misc]

    return type(build.__name__, (build,), {"process_id": process_id, "__init__": begin})
