"""A cluster's network without a control plane: two nodes, pods on them, a client outside, and a proxy on each node."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cni.iptables import Kind
from tests.integration.proxy.cluster import Cluster


@pytest.fixture(params=["nft", "legacy"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Both kinds of iptables, each in network namespaces of its own."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def cluster(kind: Kind, tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as undo:
        yield Cluster(kind, tmp_path, undo)
