"""The components as Ray actors. The only file that imports Ray."""

import functools
import importlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from distdqn.config import ConfigError
from distdqn.runtime.engine import (
    Beside,
    ComponentFailed,
    ComponentLost,
    DataLost,
    EngineFailed,
    Handle,
    Needs,
    Ref,
    Room,
    StoreFull,
    home_of,
)
from distdqn.runtime.host import Host
from distdqn.runtime.joining import no_room, refuse_unsafe, token
from distdqn.runtime.members import Members
from distdqn.runtime.news import News

# Before Ray is imported: it reads them once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let anything else on the machine go first
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Else Ray takes this process's parent for its raylet and, where that is process 1 (a container, a shell that was left),
# ends this process without a word (`_Exit(1)` in its C++ part) once the raylet is gone, before the last save.
os.environ["RAY_RAYLET_PID"] = str(os.getpid())

if token() is not None:
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # else a cluster named by host and port refuses us

import ray
import ray.exceptions as errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_worker: Any = importlib.import_module("ray._private.worker")
_worker.print_to_stdstream = lambda *words, **more: None  # pages about its processes, beside the screen; calls say it
_FULL = (errors.ObjectStoreFullError, errors.OutOfDiskError)
_DATA = (errors.ObjectLostError, errors.OwnerDiedError, errors.ObjectFetchTimedOutError)
_COLOUR = re.compile("\x1b\\[[0-9;]*m")

_Host = ray.remote(max_restarts=0)(Host)
"""Ray pickles and exports a class once for a run, so there is one for all components."""


class RayEngine:
    """Runs each component in a process of its own, or beside another one. See `engine.Engine`.

    Args:
        address: a cluster to join; None starts one on this machine that ends with the engine.
        cpus: logical CPUs of a cluster started here, at least what the components ask for together.
        object_store_bytes: shared memory of a cluster started here, for what is on its way.
        needs: what single components take, each of one machine.
        unauthenticated: a cluster that asks for no token may be joined.
        nodes: of which so many machines at most are used; None: all.
    Raises:
        EngineFailed: Ray does not start here. ConfigError: the cluster may not or cannot be joined, or is too small.
    """

    def __init__(
        self,
        address: str | None,
        cpus: int,
        gpus: int,
        object_store_bytes: int,
        needs: Sequence[Needs] = (),
        unauthenticated: bool = False,
        nodes: int | None = None,
    ) -> None:
        self._members = Members(nodes)
        options: dict[str, Any] = {}
        where = "local" if address is None else _safe(address, unauthenticated)
        if address is None:
            options = {"num_cpus": cpus, "num_gpus": gpus, "include_dashboard": False}
            options["object_store_memory"] = object_store_bytes
        old = os.umask(0o077)  # Ray writes its token file with the umask at hand
        try:
            with _sessions_of_their_own():
                ray.init(address=where, log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except Exception as error:
            line = _line(error)
            if address is None:
                raise EngineFailed(f"Ray does not start here ({line}); its logs are in /tmp/ray") from error
            line = " ".join(str(error).split()) or type(error).__name__  # another version is said in five lines
            raise ConfigError(f"engine.address={address}: no Ray cluster can be joined there ({line})") from error
        finally:
            os.umask(old)
        if address is not None:
            why = no_room([room for room in self.rooms().values() if not room.leaving], cpus, gpus, needs)
            if why is not None:
                ray.shutdown()
                raise ConfigError(f"engine.address={address}: {why}")
        self._components: dict[str, tuple[Handle, Any]] = {}
        self._homes, self._needs = dict[str, str](), dict[str, Needs]()
        self._hosts: dict[str, Any] = {}  # those that were not ended, by the component whose needs they have
        self._methods = defaultdict[Any, dict[tuple[str, int], Callable[..., Any]]](dict)
        self._news = News(_there)
        self._own, self._wants = address is None, False

    def start(self, name: str, place: Needs | Beside, build: Callable[..., Any], *args: Any) -> Handle:
        if not isinstance(build, type):
            raise TypeError("a Ray component is made by its class")
        home, handle = home_of(name, place, self._homes), Handle(name, 0)
        if name in self._components:
            earlier, host = self._components[name]
            handle = Handle(name, earlier.life + 1)
            self._end(host)
        self._homes[name] = home
        needs = self._needs[name] = self._needs[home] if isinstance(place, Beside) else place
        host = self._hosts.get(home)
        if host is not None:
            host.build.remote(name, build, *args)
        else:
            options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
            if needs.spread:
                options["scheduling_strategy"] = "SPREAD"
            if self._members.most is not None:
                options["label_selector"] = {"ray.io/node-id": f"in({','.join(self._members.used)})"}
            if needs.node:
                options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(needs.node, soft=False)
            elif needs.near is not None and not self._own:
                near = needs.near or ray.get_runtime_context().get_node_id()
                soft: dict[str, Any] = {"soft": True, "_spill_on_unavailable": True}
                options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(near, **soft)
            host = self._hosts[home] = _Host.options(**options).remote(needs.yields, name, build, *args)
        self._components[name] = (handle, host)
        return handle

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        current, host = self._components[handle.name]
        if current != handle:
            raise ComponentLost(f"{handle.name}: this life of it is over")
        known, what = self._methods[host], (f"{handle.name.partition('-')[0]}.{method}", returns)
        if what not in known:
            known[what] = _method(host, *what)
        refs = known[what](f"{handle.name}.{method}", *args)
        refs = tuple(refs) if returns > 1 else (refs,)
        self._news.follow(refs[-1])
        return refs

    def wait(self, refs: Collection[Ref], timeout: float) -> list[Ref]:
        if timeout <= 0:  # of somebody who does not wait: the news are for who does
            return _there(list(refs)) if refs else []
        return self._news.of(refs, timeout)

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        try:
            return ray.get(ref, timeout=timeout)
        except errors.GetTimeoutError:
            raise TimeoutError(f"no answer within {timeout:.0f} s") from None
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(getattr(error, "cause", None), BaseException) else error
            if isinstance(cause, _FULL):
                raise StoreFull(_line(cause)) from error
            if isinstance(cause, errors.RayError) and cause is not error:  # of an argument, which died before
                raise DataLost(_line(cause)) from error
            raise ComponentFailed(cause, _COLOUR.sub("", str(error))) from error
        except _FULL as error:
            raise StoreFull(_line(error)) from error
        except _DATA as error:
            raise DataLost(_line(error)) from error
        except errors.RayError as error:  # whatever else Ray says is a way of dying
            raise ComponentLost(_line(error)) from error

    def ready(self, handle: Handle) -> Ref:
        return self._news.follow(self._components[handle.name][1].pid.remote())

    def placed(self, handle: Handle) -> bool:
        actor = ray._private.state.actors(self._components[handle.name][1]._actor_id.hex())
        return actor["State"] not in ("DEPENDENCIES_UNREADY", "PENDING_CREATION") or bool(actor["Pid"])

    def rooms(self) -> dict[str, Room]:
        try:
            here, nodes = ray.get_runtime_context().get_node_id(), ray.nodes()
            free, leaving = (
                ray._private.state.available_resources_per_node(),
                ray._private.state.state.get_draining_nodes(),
            )
        except Exception as error:  # one class of error for each way in which a head is gone
            raise ComponentLost(f"the head of the cluster gives no answer ({_line(error)})") from error
        return self._members.rooms(nodes, leaving, free, here)

    def residents(self) -> dict[str, list[Handle]]:
        try:
            here, actors = ray.get_runtime_context().get_node_id(), ray._private.state.actors()
        except Exception as error:
            raise ComponentLost(f"the head of the cluster gives no answer ({_line(error)})") from error
        found = defaultdict[str, list[Handle]](list)
        for handle, host in list(self._components.values()):
            actor = actors.get(host._actor_id.hex())
            if actor and actor["State"] != "DEAD" and (node := actor["Address"]["NodeID"]):
                found["" if node == here else node].append(handle)
        return dict(found)

    def want(self, cpus: int) -> None:
        self._wants = cpus > 0
        importlib.import_module("ray.autoscaler.sdk").request_resources(num_cpus=cpus)

    def put(self, value: Any) -> Ref:
        try:
            return ray.put(value)
        except _FULL as error:
            raise StoreFull(_line(error)) from error

    def cancel(self, ref: Ref) -> None:
        ray.cancel(ref)

    def kill(self, handle: Handle) -> None:
        current, host = self._components[handle.name]
        if current == handle:
            self._end(host)

    def _end(self, host: Any) -> None:
        self._hosts = {home: h for home, h in self._hosts.items() if h != host}
        self._methods.pop(host, None)
        ray.kill(host)  # Ray would wait for it to leave, which takes seconds on a busy machine

    def pid(self, handle: Handle) -> int:
        return int(ray.get(self._components[handle.name][1].pid.remote()))

    def close(self) -> None:
        if self._wants:  # the wish would outlive us, and with it the machines
            with suppress(Exception):
                self.want(0)
        for host in self._hosts.values() if self._own else ():
            ray.kill(host)
        self._components.clear()
        self._hosts.clear()
        ray.shutdown()


def machines(address: str) -> int:
    """How many machines the cluster at HOST:PORT has at present, or auto; 0 where nobody answers."""
    services: Any = importlib.import_module("ray._private.services")
    raylet: Any = importlib.import_module("ray._raylet")
    try:
        address = services.canonicalize_bootstrap_address_or_die(address)
        nodes = raylet.GcsClient(address=address).get_all_node_info(timeout=10)
    except Exception:  # one class of error for each way in which a head is not there yet
        return 0
    return sum(node.state == 0 for node in nodes.values())


def _safe(address: str, unauthenticated: bool) -> str:
    """HOST:PORT of a cluster that may be joined; from now on this process speaks to it as it asks to be spoken to.

    Raises:
        ConfigError: see `joining.refuse_unsafe`; also where auto finds none.
    """
    services: Any = importlib.import_module("ray._private.services")
    raylet: Any = importlib.import_module("ray._raylet")
    try:
        resolved: str = services.canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, OSError, ValueError) as error:
        raise ConfigError(f"engine.address={address}: no Ray cluster is found ({_line(error)})") from error
    asks = refuse_unsafe(address, unauthenticated, resolved)
    os.environ["RAY_AUTH_MODE"] = "token" if asks else "disabled"
    raylet.Config.initialize("")  # reads it anew
    return resolved


@contextmanager
def _sessions_of_their_own() -> Iterator[None]:
    """A signal to this process's group (Ctrl-C, `timeout`, a scheduler) is for this process, which saves and then ends
    the others: they would end at once, and the last save with them."""
    services: Any = importlib.import_module("ray._private.services")
    popen = services.ConsolePopen
    services.ConsolePopen = functools.partial(popen, start_new_session=True)
    try:
        yield
    finally:
        services.ConsolePopen = popen


def _there(refs: list[Ref]) -> list[Ref]:
    """Those that are there; a large one need not travel to this machine. Of thousands it takes milliseconds."""
    return list(ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)[0])


def _method(host: Any, title: str, returns: int) -> Callable[..., Any]:
    """How to call `host`, whose process has the `title` meanwhile: "ray::actor.rollout". Made once: it is slow."""
    return host.call.options(num_returns=returns, name=title).remote


def _line(error: BaseException) -> str:
    """What happened and, of a constructor that failed, its own words: the first line and the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
