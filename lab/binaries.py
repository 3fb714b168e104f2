"""Programs of this machine with the shared libraries they need, to be put into images."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.errors import MissingProgram
from lab.oci import File
from lab.programs import TOOLS, search_path

# "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)", or the loader's own line, without a name.
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_MISSING = re.compile(r"^\s*(\S+) => not found$", re.MULTILINE)


def find(name: str) -> Path:
    """The executable of that name."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise MissingProgram(f"{name} is not on this machine: run scripts/setup")
    return Path(found)


def run(argv: list[str]) -> str:
    """What a program prints."""
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(_library_folders())}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False).stdout


def with_libraries(program: Path, destination: str, *, opened_later: Sequence[str] = ()) -> dict[str, File]:
    """The program at `destination`, and its libraries where the loader of the image will look for them.

    `opened_later` names what the program does not tell that it needs, found beside the C library.
    """
    listing = run(["ldd", str(program)])
    if missing := _MISSING.findall(listing):
        raise MissingProgram(f"{program.name} needs {', '.join(missing)}, not on this machine: run scripts/setup")
    libraries = [Path(path) for path in _LIBRARY.findall(listing)]
    libraries += [path.parent / name for path in libraries if path.name == "libc.so.6" for name in opened_later]
    tree = {destination: File(program.read_bytes(), 0o755)}
    for library in libraries:
        tree[_place(library)] = File(library.read_bytes(), 0o755)
    return tree


def apache_module(name: str) -> File:
    """A module of Debian's apache2, which lies beside the program that was unpacked or installed."""
    file = find("apache2").parents[1] / "lib/apache2/modules" / f"mod_{name}.so"
    if not file.exists():
        raise MissingProgram(f"{file} is not on this machine: run scripts/setup")
    return File(file.read_bytes())


def _place(library: Path) -> str:
    if library.is_relative_to(TOOLS):
        library = Path("/") / library.relative_to(TOOLS)
    return str(library).lstrip("/")


def _library_folders() -> list[str]:
    return [str(folder) for folder in sorted(TOOLS.glob("usr/lib/*-linux-gnu"))]
