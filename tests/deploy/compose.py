"""docker-compose.yml and the Dockerfile as data: what runs, with which command, surroundings and health check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, _missing

FILE = ROOT / "docker-compose.yml"
GPU_FILE = ROOT / "docker-compose.gpu.yml"
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"


@cache
def resolved(*files: Path, **surroundings: str) -> dict[str, Any]:
    """The files as docker-compose understands them: merged, checked, variables filled in."""
    program = shutil.which("docker-compose")
    if program is None:
        _missing("docker-compose")
    options = [word for file in files for word in ("-f", str(file))]
    told = subprocess.run(
        [str(program), "--env-file", str(ROOT / ".env.example"), *options, "config"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", **surroundings}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = yaml.safe_load(told.stdout)
    return found


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile: what it is made from, its instructions in order, and what it inherits."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]
    parent: Stage | None

    def last(self, instruction: str) -> str:
        """The arguments of the last such instruction here or in the stage it is made from; "" when there is none."""
        own = [words for name, words in self.instructions if name == instruction]
        return own[-1] if own else self.parent.last(instruction) if self.parent else ""

    def command(self, instruction: str) -> list[str]:
        """ENTRYPOINT or CMD in its exec form."""
        words = self.last(instruction)
        return [str(word) for word in json.loads(words)] if words else []

    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        found = re.search(r"CMD\s+(\[.*\])$", self.last("HEALTHCHECK"))
        return [str(word) for word in json.loads(found[1])] if found else []


def stages(dockerfile: Path = DOCKERFILE) -> dict[str, Stage]:
    """The stages by name; ARGs in FROM are filled in with their defaults."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    defaults: dict[str, str] = {}
    found: dict[str, Stage] = {}
    current: tuple[str, str, list[tuple[str, str]]] | None = None

    def close() -> None:
        if current is not None:
            name, base, told = current
            found[name] = Stage(name, base, tuple(told), found.get(base))

    for line in filter(None, map(str.strip, lines)):
        instruction, _, words = line.partition(" ")
        if instruction == "FROM":
            close()
            base, _, name = words.partition(" AS ")
            current = (name, re.sub(r"\$\{(\w+)\}", lambda one: defaults[one[1]], base), [])
        elif current is None:
            name, _, value = words.partition("=")
            defaults[name] = value
        else:
            current[2].append((instruction, words.strip()))
    close()
    return found
