"""What the coordinator needs of whatever runs the components."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol


class NoAnswer(RuntimeError):
    """A call will not be answered."""


class ComponentLost(NoAnswer):
    """The process of a component died, or was unreachable; its state is gone."""


class DataLost(NoAnswer):
    """An object that a call needed is gone with the machine that held it; the component called is well."""


class StoreFull(DataLost):
    """Shared memory, or the disk behind it, had no room for an object: a little later there may be some."""


class ComponentFailed(NoAnswer):
    """A method of the component raised. The message is one line, `trace` the traceback."""

    def __init__(self, error: BaseException, trace: str) -> None:
        said = " ".join(str(error).split())
        super().__init__(f"{type(error).__name__}: {said}" if said else type(error).__name__)
        self.trace = trace


class EngineFailed(RuntimeError):
    """The engine itself does not start; the message is one line."""


@dataclass(frozen=True)
class Handle:
    """A running component: its `name`, unique in the run, and which `life` of it this is."""

    name: str
    life: int


@dataclass(frozen=True)
class Needs:
    """What one component takes of a machine; `spread` prefers machines that run few of its kind, `near` one of the
    engine's machines, `yields` lets the others have the core where both want it. `node` is the engine's name of another
    machine, on which it has to be."""

    cpus: float = 1.0
    gpus: float = 0.0
    spread: bool = False
    near: str | None = None
    yields: bool = False
    node: str = ""


@dataclass(frozen=True)
class Room:
    """What a machine has for components, and how many CPUs none has yet; `leaving`: it is to go, and takes nobody.
    `store`: bytes of shared memory for what is on its way; 0 where that is not known."""

    host: str
    cpus: float
    gpus: float
    free: float = 0.0
    leaving: bool = False
    store: float = 0.0


@dataclass(frozen=True)
class Beside:
    """The process of the component `name`, which has been started before; what it takes is what that one needs.

    Components of one process are called one after the other, in the order of the calls to all of them, and live and
    die together: where one dies, is killed, cannot be made or is started anew, the others are lost too, and each is
    started anew by a call of its own. Whichever comes first makes the new process, with the needs of `name`.
    """

    name: str


def home_of(name: str, place: Needs | Beside, homes: dict[str, str]) -> str:
    """The component whose process `name` is in, itself or another; `homes` says it of those that have been started.

    Raises:
        ValueError: it is to be beside one that is beside another.
    """
    if isinstance(place, Needs):
        return name
    home = homes[place.name]
    if home != place.name:
        raise ValueError(f"{name} cannot be beside {place.name}, which is itself beside {home}: name {home}")
    return home


Ref = Any
"""A result that may not be there yet. Passed as an argument of a call it arrives there as its value, without
passing through the coordinator."""


class Engine(Protocol):
    """Starts components, calls them, and hands references on.

    Loop:
        handle = engine.start("actor-0", Needs(), Actor, env, agent, ...)
        segment, stats = engine.call(handle, "rollout", weights, returns=2)
        (ready,) = engine.wait([stats], timeout=1.0)
        engine.fetch(ready)              # the value, or ComponentLost
        engine.call(shard, "add", segment)
    """

    def start(self, name: str, place: Needs | Beside, build: Callable[..., Any], *args: Any) -> Handle:
        """Starts (or starts anew) the component `name`, made there by `build(*args)`, in a process of its own or in
        that of another component. An earlier life of it is over at once. ValueError beside one that is beside another.
        """

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        """Asks for `method(*args)`; calls to one component run one after the other, in order."""

    def wait(self, refs: Collection[Ref], timeout: float) -> list[Ref]:
        """Those of `refs`, each the last of a call, that came since the last time, after at most `timeout` seconds; at
        once where there is one. Before long, those too that came earlier. With a timeout of 0 all that are there."""

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        """The value, waiting for it.

        Raises:
            TimeoutError: it is not there after `timeout` seconds.
            ComponentLost: the component died before it answered.
            DataLost: an argument or the result itself is gone; `StoreFull`: there was no room for it.
            ComponentFailed: the method raised.
        """

    def ready(self, handle: Handle) -> Ref:
        """A result, of no meaning, that is there once the component has been made."""

    def placed(self, handle: Handle) -> bool:
        """False while there is no room for the component's process on any machine."""

    def rooms(self) -> dict[str, Room]:
        """The machines on which components may run, by the engine's name for each; "" is this one. May be asked in a
        thread. Raises `ComponentLost` where nobody says it."""

    def residents(self) -> dict[str, list[Handle]]:
        """The components that have a process, by the engine's name of the machine that it is on. May be asked in a
        thread. Raises `ComponentLost` where nobody says it."""

    def want(self, cpus: int) -> None:
        """Asks whoever makes machines for so many CPUs in all; nothing where nobody does."""

    def put(self, value: Any) -> Ref:
        """A reference to a value of the caller's."""

    def cancel(self, ref: Ref) -> None:
        """Takes back a call that has not begun; `ComponentLost` is its answer."""

    def kill(self, handle: Handle) -> None:
        """Ends the component, and those that share its process, without asking."""

    def pid(self, handle: Handle) -> int:
        """Process id of the component on its machine."""

    def close(self) -> None:
        """Ends every component."""
