"""One lab of two nodes for the run, and a namespace for each test."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import AsyncIterator

import pytest

from lab.plan import saved
from podwire.client import Client
from tests.e2e.cluster import Cluster, Space, run

# A lab of this name that is there already is used and left: `podwire-lab up --name NAME`, PODWIRE_E2E_LAB=NAME.
GIVEN_LAB = os.environ.get("PODWIRE_E2E_LAB", "")
NODES = 2


@pytest.fixture(scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("a lab needs root: network namespaces and containerd")
    name = GIVEN_LAB or f"e2e-{uuid.uuid4().hex[:6]}"
    if not GIVEN_LAB:
        await run([sys.executable, "-m", "lab", "up", "--name", name, "--nodes", str(NODES)], timeout=180)
    try:
        plan = saved(name)
        assert plan is not None, f"there is no lab {name}"
        async with Client.connect(f"unix:{plan.api_socket}") as client:
            yield Cluster(plan, client)
    finally:
        if not GIVEN_LAB:
            await run([sys.executable, "-m", "lab", "down", name], timeout=120)


@pytest.fixture
async def space(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Space]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    await cluster.podctl("create", "namespace", name)
    space = Space(cluster, name)
    try:
        yield space
    finally:
        if request.session.testsfailed:
            for what in (("get", "pods", "-o", "wide"), ("events",)):
                print((await space.podctl(*what, check=False)).stdout)
        await cluster.podctl("delete", "namespace", name, "--wait", timeout=120)
