"""Decisions of the verbs: graces, conditions, the progress of a rollout, and the words for errors."""

from typing import Any

import pytest

from podctl.deleting import Request
from podctl.failures import CommandError, Rejected, UsageError, explain
from podctl.scaling import rollout_progress
from podctl.waiting import parse_condition
from podctl.workloads import choose_container
from podwire import errors, kinds, manifest, v1


@pytest.mark.parametrize(
    ("options", "grace"),
    [
        ({}, None),
        ({"grace_period": 5}, 5),
        # kubectl: 0 is only for --force; without it, the shortest grace.
        ({"grace_period": 0}, 1),
        ({"force": True}, 0),
        ({"force": True, "grace_period": 0}, 0),
        ({"now": True}, 1),
    ],
)
def test_how_long_a_deleted_pod_has(options: dict[str, Any], grace: int | None) -> None:
    assert Request(**options).effective_grace == grace


@pytest.mark.parametrize(
    "options", [{"now": True, "force": True}, {"now": True, "grace_period": 3}, {"force": True, "grace_period": 3}]
)
def test_graces_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        _ = Request(**options).effective_grace


def deployment(status: dict[str, Any], *, generation: int = 2) -> v1.Deployment:
    tree = {
        "metadata": {"name": "web", "generation": generation},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": 2, **status},
    }
    made: v1.Deployment = manifest.from_tree(kinds.DEPLOYMENT, tree)
    return made


@pytest.mark.parametrize(
    ("given", "done", "text"),
    [
        (deployment({}, generation=3), False, "Waiting for deployment spec update to be observed..."),
        (deployment({"updatedReplicas": 1}), False, "1 out of 3 new replicas have been updated..."),
        (deployment({"updatedReplicas": 3, "replicas": 4}), False, "1 old replicas are pending termination..."),
        (
            deployment({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
            False,
            "2 of 3 updated replicas are available...",
        ),
        (
            deployment({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
            True,
            'deployment "web" successfully rolled out',
        ),
    ],
)
def test_how_far_a_rollout_is(given: v1.Deployment, done: bool, text: str) -> None:
    assert rollout_progress(given)[0] is done
    assert rollout_progress(given)[1].endswith(text)


def test_a_rollout_past_its_deadline_is_an_error() -> None:
    late = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
    with pytest.raises(CommandError, match="exceeded its progress deadline"):
        rollout_progress(deployment(late))


def pod(**status: Any) -> v1.Pod:
    tree = {"metadata": {"name": "web"}, "status": status}
    made: v1.Pod = manifest.from_tree(kinds.POD, tree)
    return made


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("text", "status", "holds"),
    [
        ("condition=Ready", READY, True),
        ("condition=ready", READY, True),
        ("condition=Ready=False", READY, False),
        ("condition=Ready", {}, False),
        ("condition=Ready=false", {"conditions": [{"type": "Ready", "status": "False"}]}, True),
        ("jsonpath={.status.phase}=Running", {"phase": "Running"}, True),
        ("jsonpath={.status.phase}=Running", {"phase": "Pending"}, False),
        ("jsonpath={.status.podIP}", {"podIP": "10.0.0.1"}, True),
        ("jsonpath={.status.podIP}", {}, False),
        ("create", {}, True),
        ("delete", {}, False),
    ],
)
def test_whether_a_condition_holds(text: str, status: dict[str, Any], holds: bool) -> None:
    assert parse_condition(text).holds(kinds.POD, pod(**status)) is holds


@pytest.mark.parametrize("text", ["", "ready", "condition=", "delete=now", "jsonpath=", "jsonpath={.a}x"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_condition(text)


def test_a_condition_of_an_older_generation_does_not_count() -> None:
    available = {"conditions": [{"type": "Available", "status": "True"}]}
    condition = parse_condition("condition=Available")
    assert condition.holds(kinds.DEPLOYMENT, deployment(available))
    assert not condition.holds(kinds.DEPLOYMENT, deployment(available, generation=3))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.NotFound('pods "x" not found'), 'Error from server (NotFound): pods "x" not found'),
        (errors.Conflict("it changed"), "Error from server (Conflict): it changed"),
        (CommandError("no"), "error: no"),
        (errors.Unavailable("nobody answers"), "error: nobody answers"),
        (errors.Invalid("the selector is wrong"), "error: the selector is wrong"),
        (
            errors.Invalid.fields('Pod "x"', [errors.FieldError("spec.a", "bad")]),
            'error: Pod "x" is invalid: spec.a: bad',
        ),
        (
            errors.Invalid.fields(
                'Pod "x"', [errors.FieldError("spec.a", "bad"), errors.FieldError("spec.b", "worse")]
            ),
            'error: Pod "x" is invalid:\n  spec.a: bad\n  spec.b: worse',
        ),
        (Rejected([errors.Invalid("one"), errors.Invalid("two")]), "error: one\nerror: two"),
    ],
)
def test_errors_are_put_into_words(error: Exception, text: str) -> None:
    assert explain(error) == text


def two_containers(**annotations: str) -> v1.Pod:
    tree = {
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {
            "containers": [{"name": "app", "image": "x"}, {"name": "proxy", "image": "x"}],
            "initContainers": [{"name": "setup", "image": "x"}],
        },
    }
    made: v1.Pod = manifest.from_tree(kinds.POD, tree)
    return made


def test_the_first_container_is_meant_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_container(two_containers(), "") == "app"
    assert capsys.readouterr().err == 'Defaulted container "app" out of: app, proxy, setup\n'


def test_a_pod_can_say_which_container_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    given = two_containers(**{"kubectl.kubernetes.io/default-container": "proxy"})
    assert choose_container(given, "") == "proxy"
    assert choose_container(given, "setup") == "setup"
    assert capsys.readouterr().err == ""


def test_a_container_that_the_pod_does_not_have_is_an_error() -> None:
    with pytest.raises(CommandError, match='no container "x": it has app, proxy, setup'):
        choose_container(two_containers(), "x")
