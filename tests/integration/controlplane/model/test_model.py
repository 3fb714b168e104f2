"""Random programs of concurrent clients against a model, on a real etcd with one and with two replicas.

Which programs are tried is the same in every run of the short profile; how their steps interleave is not. A failure
prints the program, which `@reproduce_failure` or the example itself runs again.
"""

from __future__ import annotations

import itertools
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, assume, given, note, settings
from hypothesis import strategies as st

from controlplane.store.etcd import Etcd
from podwire.client import Client
from tests.integration.controlplane.model.checks import check_run
from tests.integration.controlplane.model.programs import Program, programs
from tests.integration.controlplane.model.running import run_program
from tests.integration.controlplane.replica import Api, namespace

_PROFILE: Final = settings(
    deadline=None,
    print_blob=True,
    # No shrinking: a program that failed once in one interleaving need not fail again.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large),
)
_SHORT: Final = settings(_PROFILE, max_examples=8)
_LONG: Final = settings(_PROFILE, max_examples=120, derandomize=False)
_numbers = itertools.count()


@_SHORT
@given(program=programs(clients=6, steps=14))
async def test_what_clients_of_one_replica_do_at_once_is_what_the_model_says(
    program: Program, client: Client, etcd: Etcd
) -> None:
    await _try(program, [client], etcd)


@_SHORT
@given(program=programs(clients=6, steps=14))
async def test_what_clients_of_two_replicas_do_at_once_is_what_the_model_says(
    program: Program, client: Client, second_api: Api, etcd: Etcd
) -> None:
    await _try(program, [client, second_api.client], etcd)


@pytest.mark.slow
@_LONG
@given(program=st.integers(2, 8).flatmap(lambda clients: programs(clients, steps=30)), replicas=st.integers(1, 2))
async def test_long_programs_of_many_clients_do_what_the_model_says(
    program: Program, replicas: int, client: Client, second_api: Api, etcd: Etcd
) -> None:
    await _try(program, [client, second_api.client][:replicas], etcd)


async def _try(program: Program, clients: list[Client], etcd: Etcd) -> None:
    name = f"model-{next(_numbers)}"
    made = await clients[0].namespaces.create(namespace(name))
    run = await run_program(program, name, int(made.metadata.resource_version), clients, etcd)
    # A machine too busy to answer shows nothing.
    assume(not run.unanswered)
    note(f"{len(run.requests)} requests, {len(run.truth.changes)} changes, {len(run.watches)} watches")
    check_run(run)
