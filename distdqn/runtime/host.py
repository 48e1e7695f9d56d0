"""What runs in a process of its own."""

import os
import sys
from typing import Any

YIELDING = 10
"""Niceness of a process that lets others go first."""


class Host:
    """A process and the components in it."""

    def __init__(self, yields: bool, name: str, build: type, *args: Any) -> None:
        type(self).__name__ = name.partition("-")[0]  # the title of the process while it waits: "ray::actor"
        if yields:
            os.nice(YIELDING)
        self._components = {name: build(*args)}

    def build(self, name: str, build: type, *args: Any) -> None:
        """Makes a further component, or ends with what its constructor said."""
        try:
            self._components[name] = build(*args)
        except Exception as error:
            sys.exit(f"{type(error).__name__}: {error}")

    def call(self, what: str, *args: Any) -> Any:
        """What `what`, "component.method", gives. `args` are not a list, in which references would stay unresolved."""
        name, _, method = what.rpartition(".")
        if name not in self._components:
            sys.exit(f"{name}: its class cannot be imported")
        return getattr(self._components[name], method)(*args)

    def pid(self) -> int:
        """Process id."""
        return os.getpid()
