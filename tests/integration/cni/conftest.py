"""A node and pods, as network namespaces."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.cni.hosts import Host, host


@pytest.fixture
def hosts() -> Iterator[Callable[[], Host]]:
    """Makes hosts that end with the test."""
    with ExitStack() as made:
        yield lambda: made.enter_context(host())


@pytest.fixture
def node(hosts: Callable[[], Host]) -> Host:
    return hosts()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
