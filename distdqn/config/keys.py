"""What there is to choose: the experiments, and every key with its default, read off files and dataclasses."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any, NamedTuple

from distdqn.config.run import RunConfig
from distdqn.config.section import Section, describe, keys_of, kinds_of, one_line


def conf_dir() -> Path:
    """The folder of YAML files: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def experiments() -> dict[str, str]:
    """Each experiment's name and the first line that says what it is."""
    found = {}
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        comments = [x[2:].strip() for x in path.read_text().splitlines() if x.startswith("# ") and "@package" not in x]
        found[path.stem] = comments[0] if comments else ""
    return found


class Key(NamedTuple):
    """One key, as `learner.batch_size`; `meaning` is one line, and empty where the name says it."""

    name: str
    default: str
    allowed: str
    meaning: str


def sections(cls: type[Section] = RunConfig) -> Iterator[tuple[type[Section], list[Key]]]:
    """`cls` with the keys of its own, then each section in it."""
    meanings, nested, own = _meanings(cls), [], []
    for field in keys_of(cls):
        kind = kinds_of(cls)[field.name]
        if isinstance(kind, type) and issubclass(kind, Section):
            nested.append(kind)
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        name = f"{cls.key}.{field.name}".lstrip(".")
        own.append(Key(name, _written(default), describe(kind, field.metadata), meanings.get(field.name, "")))
    yield cls, own
    for kind in nested:
        yield from sections(kind)


def text() -> str:
    """All keys with what they may be and mean, a section below the other."""
    lines = []
    for cls, keys in sections():
        lines += ["", f"# {one_line(cls.__doc__ or '')}"]
        for key in keys:
            lines.append(f"{key.name}={key.default}")
            lines += [f"    {line}" for line in (key.allowed, key.meaning) if line]
    return "\n".join(lines[1:])


def _meanings(cls: type) -> dict[str, str]:
    """The string below each field of `cls`, in one line."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[ast.unparse(field.target)] = one_line(below.value.value)
    return found


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_written, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
