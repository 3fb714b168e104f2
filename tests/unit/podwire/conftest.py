"""A pods service that can be made to fail, and a client of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from podwire.client import Client, RetryPolicy, Settings
from tests.unit.podwire.fake_api import FakePods, serving

# As in production but for the delays, which tests need not wait for; patience is for a machine that is busy.
QUICK = Settings(RetryPolicy(patience=30.0, backoff_first=0.001, backoff_cap=0.01), relist_spread=0.01)
# For tests in which nobody answers.
IMPATIENT = replace(QUICK, retry=replace(QUICK.retry, patience=1.0), silence=0.3)


@pytest.fixture
def pods() -> FakePods:
    return FakePods()


@pytest.fixture
async def client(pods: FakePods, tmp_path: Path) -> AsyncIterator[Client]:
    settings = replace(QUICK, silence=0.3)
    async with serving(pods, tmp_path / "api.sock") as endpoint, Client.connect(endpoint, settings=settings) as made:
        yield made
