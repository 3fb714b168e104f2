"""What every test needs: the programs that scripts/setup unpacked are on PATH behind the machine's own.

Examples that hypothesis draws are the same in every run, so that a run says something about the change under test;
`--hypothesis-profile=searching` draws new ones.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine an example may take as long as it likes.
settings.register_profile("searching", deadline=None)
settings.register_profile("repeatable", settings.get_profile("searching"), derandomize=True)
settings.load_profile("repeatable")

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
