"""Labs of one node, removed after the tests."""

import uuid
from collections.abc import AsyncIterator

import pytest

from lab.lab import CHECKOUT, Lab
from lab.plan import Plan


def new_lab() -> Lab:
    return Lab(Plan(f"it-{uuid.uuid4().hex[:8]}", 1, str(CHECKOUT)))


@pytest.fixture(scope="module")
async def lab() -> AsyncIterator[Lab]:
    """A running lab that the module's tests share; each leaves everything in it running."""
    lab = new_lab()
    try:
        await lab.up()
        yield lab
    finally:
        await lab.down()


@pytest.fixture
async def unborn_lab() -> AsyncIterator[Lab]:
    """A lab that nothing was done for yet."""
    lab = new_lab()
    try:
        yield lab
    finally:
        await lab.down()
