"""What of `launch/Dockerfile` can be checked without building it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def test_it_copies_what_is_there_and_installs_what_is_allowed() -> None:
    text = (ROOT / "launch" / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", text).splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    copied = [source for first, *rest in words if first == "COPY" for source in rest[:-1]]
    assert {"pyproject.toml", "distdqn", "conf"} <= set(copied) and all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in (project["readme"], *project["license-files"]):  # the build reads them
        assert needed in copied
    said = dict(word.split("=", 1) for first, word, *_ in words if first == "ARG")
    (ray,) = (Requirement(text) for text in project["dependencies"] if text.startswith("ray"))
    assert said["RAY"] in ray.specifier and said["PYTHON"] in Requirement(f"x{project['requires-python']}").specifier
    assert [rest for first, *rest in words if first == "USER"] == [["ray"]] and "--uid 1000" in text  # the manifest's
