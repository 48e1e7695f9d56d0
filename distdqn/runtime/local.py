"""Everything in one process: the oracle for the distributed system, and a debugger's friend."""

import os
import socket
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from distdqn.machine import inspect
from distdqn.runtime.engine import (
    Beside,
    ComponentFailed,
    ComponentLost,
    DataLost,
    Handle,
    Needs,
    NoAnswer,
    Ref,
    Room,
    home_of,
)


@dataclass(eq=False)
class _Result:
    value: Any = None
    error: BaseException | None = None


class LocalEngine:
    """Runs each call at once, in the caller's process. See `engine.Engine`."""

    def __init__(self) -> None:
        self._components: dict[str, tuple[Handle, Any]] = {}
        self._homes: dict[str, str] = {}
        """The component whose process each would share elsewhere."""

    def start(self, name: str, place: Needs | Beside, build: Callable[..., Any], *args: Any) -> Handle:
        home, handle = home_of(name, place, self._homes), Handle(name, 0)
        if name in self._components:
            earlier, _ = self._components[name]
            handle = Handle(name, earlier.life + 1)
            self.kill(earlier)
        self._components[name], self._homes[name] = (handle, build(*args)), home
        return handle

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        current, component = self._components[handle.name]
        if component is None or current != handle:
            lost = ComponentLost(f"{handle.name} is gone")
            return tuple(_Result(error=lost) for _ in range(returns))
        try:
            values = getattr(component, method)(*(_argument(a) for a in args))
            if returns > 1 and len(values) != returns:
                raise ValueError(f"{handle.name}.{method} gave {len(values)} values instead of {returns}")
        except Exception as error:
            if not isinstance(error, NoAnswer):
                failed = ComponentFailed(error, traceback.format_exc())
                failed.__cause__, error = error, failed
            return tuple(_Result(error=error) for _ in range(returns))
        return tuple(_Result(v) for v in values) if returns > 1 else (_Result(values),)

    def wait(self, refs: Collection[Ref], timeout: float) -> list[Ref]:
        return list(refs)

    def fetch(self, ref: Ref, timeout: float | None = None) -> Any:
        if ref.error is not None:
            raise ref.error
        return ref.value

    def ready(self, handle: Handle) -> Ref:
        return _Result()

    def placed(self, handle: Handle) -> bool:
        return True

    def rooms(self) -> dict[str, Room]:
        machine = inspect()
        return {"": Room(socket.gethostname(), machine.cores, machine.gpus)}

    def residents(self) -> dict[str, list[Handle]]:
        return {"": [handle for handle, component in self._components.values() if component is not None]}

    def want(self, cpus: int) -> None:
        """This machine is all that there is."""

    def put(self, value: Any) -> Ref:
        return _Result(value)

    def cancel(self, ref: Ref) -> None:
        """Every call has been made at once."""

    def kill(self, handle: Handle) -> None:
        current, component = self._components[handle.name]
        if current != handle or component is None:
            return
        for name, (life, component) in self._components.items():
            if self._homes[name] == self._homes[handle.name]:
                _close(component)
                self._components[name] = (life, None)

    def pid(self, handle: Handle) -> int:
        return os.getpid()

    def close(self) -> None:
        for _, component in self._components.values():
            _close(component)
        self._components.clear()


def _argument(value: Any) -> Any:
    """What a reference stands for; one that failed is an object that is gone."""
    if not isinstance(value, _Result):
        return value
    if value.error is not None:
        raise DataLost(str(value.error))
    return value.value


def _close(component: Any) -> None:
    if hasattr(component, "close"):
        component.close()
