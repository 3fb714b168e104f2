"""What words on the command line mean."""

import pytest

from podctl.failures import CommandError, UsageError
from podctl.naming import qualified, resource, resources
from podctl.targets import Target, parse_target, parse_targets
from podwire import kinds


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (["pods"], [Target(kinds.POD)]),
        (["po", "a", "b"], [Target(kinds.POD, "a"), Target(kinds.POD, "b")]),
        (["svc/web", "deployment.apps/web"], [Target(kinds.SERVICE, "web"), Target(kinds.DEPLOYMENT, "web")]),
        (["pods,svc"], [Target(kinds.POD), Target(kinds.SERVICE)]),
        (["deploy,rs", "web"], [Target(kinds.DEPLOYMENT, "web"), Target(kinds.REPLICA_SET, "web")]),
        (["Node"], [Target(kinds.NODE)]),
        (["ep"], [Target(kinds.ENDPOINT_SLICE)]),
        (
            ["all"],
            [Target(kinds.POD), Target(kinds.SERVICE), Target(kinds.DEPLOYMENT), Target(kinds.REPLICA_SET)],
        ),
    ],
)
def test_types_and_names_are_found(words: list[str], targets: list[Target]) -> None:
    assert parse_targets(words) == targets


@pytest.mark.parametrize("words", [[], ["pod/web", "svc"], ["pod/"], ["/web"], ["pod/a/b"], ["all", "web"]])
def test_words_that_mean_nothing_are_usage_errors(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_targets(words)


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(CommandError, match='no resource type "frobs"'):
        parse_targets(["frobs"])


def test_one_target_may_do_without_its_type() -> None:
    assert parse_target("web", kinds.POD) == Target(kinds.POD, "web")
    assert parse_target("deploy/web", kinds.POD) == Target(kinds.DEPLOYMENT, "web")


def test_kinds_of_a_group_are_written_with_it() -> None:
    assert qualified(kinds.POD, "web") == "pod/web"
    assert qualified(kinds.DEPLOYMENT, "web") == "deployment.apps/web"
    assert resource(kinds.ENDPOINT_SLICE) == "endpointslice.discovery.k8s.io"
    assert resources(kinds.REPLICA_SET) == "replicasets.apps"
