"""What every test needs: the programs that scripts/setup unpacked are on PATH behind the machine's own."""

import os
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / ".tools"

os.environ["PATH"] = os.pathsep.join(
    [os.environ["PATH"], *(str(TOOLS / folder) for folder in ("usr/bin", "usr/sbin", "bin"))]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    needs_root = pytest.mark.skip(reason="needs root: network namespaces, containerd, iptables")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(needs_root)
