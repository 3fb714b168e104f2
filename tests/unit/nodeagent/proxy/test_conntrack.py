"""Which UDP entries are stale."""

import pytest

from nodeagent.proxy.conntrack import Flow, stale
from nodeagent.proxy.endpoints import Target
from nodeagent.proxy.rules import Frontend

CLUSTER, NODE, POD, OTHER = "10.96.0.53", "10.77.0.11", Target("10.244.1.2", 53), Target("10.244.2.2", 53)
NODE_PORT = 30053


@pytest.mark.parametrize(
    ("destination", "answers_from", "targets", "is_stale"),
    [
        (Target(CLUSTER, 53), POD, {POD}, False),
        (Target(CLUSTER, 53), OTHER, {POD}, True),
        (Target(CLUSTER, 53), POD, set(), True),
        # Never translated: it came before the service had endpoints.
        (Target(CLUSTER, 53), Target(CLUSTER, 53), {POD}, True),
        (Target(CLUSTER, 54), Target(CLUSTER, 54), {POD}, False),
        (Target(NODE, NODE_PORT), OTHER, {POD}, True),
        (Target(NODE, NODE_PORT), POD, {POD}, False),
        # The same port of somebody else is none of ours.
        (Target("192.0.2.1", NODE_PORT), Target("192.0.2.1", NODE_PORT), {POD}, False),
    ],
)
def test_a_flow_that_leads_to_no_endpoint_of_its_service_is_stale(
    destination: Target, answers_from: Target, targets: set[Target], is_stale: bool
) -> None:
    frontends = {Frontend("UDP", CLUSTER, 53): targets, Frontend("UDP", "", NODE_PORT): targets}
    flow = Flow(destination, answers_from, b"")
    assert list(stale([flow], frontends, {NODE})) == ([flow] if is_stale else [])
