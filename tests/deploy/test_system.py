"""deploy/test-system.sh asks for exactly what is missing; apt-get and what it looks for are stand-ins here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "deploy/test-system.sh"
PROGRAMS = ("ffmpeg", "kcat", "mvn", "docker-compose", "prometheus", "promtool", "java")
NEW_JAVA, OLD_JAVA = 'openjdk version "21.0.4" 2024', 'openjdk version "11.0.2" 2019'


class Machine:
    """A folder that is the whole PATH: the shell's own tools, stand-ins for the rest."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder
        for tool in ("sh", "sed", "head", "ls", "echo", "env", "cat"):
            (folder / tool).symlink_to(str(shutil.which(tool)))
        self.put("id", "echo 0")
        self.put("dpkg", "exit 0")

    def put(self, name: str, *lines: str) -> None:
        program = self.bin / name
        program.write_text("\n".join(("#!/bin/sh", *lines, "")))
        program.chmod(0o755)

    def apt(self, *, knows: str = "*") -> Path:
        log = self.bin / "asked"
        self.put("apt-get", f'echo "$@" >> {log}')
        self.put("apt-cache", f'case "$2" in {knows}) exit 0 ;; esac; exit 1')
        return log

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(SCRIPT)], env={"PATH": str(self.bin)}, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    for name in PROGRAMS:
        made.put(name, "exit 0")
    made.put("java", f"echo '{NEW_JAVA}' >&2")
    return made


def wants_of_the_bindings() -> set[str]:
    """What this machine's own Python lacks: the script asks it by its full path."""
    asked = subprocess.run(
        ["/usr/bin/python3", "-c", 'import gi; gi.require_version("GstRtspServer", "1.0")'],
        capture_output=True,
        check=False,
    )
    plugins = {f"gstreamer1.0-plugins-{name}" for name in ("base", "good", "bad", "ugly")}
    has_plugins = any(Path("/usr/lib").glob("*/gstreamer-1.0"))
    bindings = set() if asked.returncode == 0 else {"gir1.2-gst-rtsp-server-1.0", "python3-gi"}
    return bindings | (set() if has_plugins else plugins)


def installed(log: Path) -> set[str]:
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("install")]
    return {word for word in line.split()[1:] if not word.startswith("-")}


def test_asks_for_nothing_where_all_is_there(machine: Machine) -> None:
    if wants_of_the_bindings():
        pytest.skip("this machine has no GStreamer RTSP server, so the script does ask")
    log = machine.apt()
    told = machine.run()
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert not log.exists()


def test_installs_what_is_missing(machine: Machine) -> None:
    for name in PROGRAMS:
        (machine.bin / name).unlink()
    log = machine.apt()
    assert machine.run().returncode == 0
    expected = {"ffmpeg", "kcat", "maven", "docker-compose", "prometheus", "openjdk-25-jre-headless"}
    assert installed(log) == expected | wants_of_the_bindings()


def test_java_that_is_too_old_is_replaced_by_one_the_system_has(machine: Machine) -> None:
    machine.put("java", f"echo '{OLD_JAVA}' >&2")
    log = machine.apt(knows="openjdk-17-*")
    assert machine.run().returncode == 0
    assert installed(log) == {"openjdk-17-jre-headless"}


def test_what_the_system_does_not_have_is_said_and_the_rest_installed(machine: Machine) -> None:
    (machine.bin / "kcat").unlink()
    (machine.bin / "mvn").unlink()
    log = machine.apt(knows="maven")
    told = machine.run()
    assert told.returncode == 0
    assert "skipped: kcat" in told.stdout
    assert installed(log) == {"maven"}


def test_a_failed_installation_is_a_failure(machine: Machine) -> None:
    (machine.bin / "kcat").unlink()
    machine.apt()
    machine.put("apt-get", 'case "$1" in install) exit 100 ;; esac')
    assert machine.run().returncode == 100


def test_says_what_is_missing_where_it_may_not_install(machine: Machine) -> None:
    (machine.bin / "kcat").unlink()
    (machine.bin / "promtool").unlink()
    machine.put("id", "echo 1000")
    log = machine.apt()
    told = machine.run()
    assert told.returncode == 0
    assert "kcat" in told.stdout
    assert "prometheus" in told.stdout
    assert not log.exists()


def test_shell_scripts_are_clean() -> None:
    listed = subprocess.run(["git", "ls-files", "*.sh", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True)
    scripts = [
        name for name in listed.stdout.splitlines()
        if (ROOT / name).is_file() and (ROOT / name).read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
    ]  # fmt: skip
    assert "deploy/test-system.sh" in scripts
    told = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), *scripts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout
