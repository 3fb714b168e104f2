"""Label and field selectors in kubectl's notation."""

import pytest

from podwire import kinds, v1
from podwire.errors import Invalid
from podwire.selectors import FieldSelector, LabelSelector


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web"}, True),
        ("app=web", {"app": "db"}, False),
        ("app=web", {}, False),
        ("app!=web", {}, True),
        ("app != web", {"app": "web"}, False),
        ("app=", {"app": ""}, True),
        ("app", {"app": "x"}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("! app", {"app": "x"}, False),
        ("tier in (a, b)", {"tier": "b"}, True),
        ("tier in (a,b)", {}, False),
        ("tier notin (a,b)", {}, True),
        ("tier notin (a,b)", {"tier": "a"}, False),
        ("app=web,tier in (a,b),!canary", {"app": "web", "tier": "a"}, True),
        ("app=web,tier in (a,b),!canary", {"app": "web", "tier": "a", "canary": ""}, False),
        ("app.kubernetes.io/name=web", {"app.kubernetes.io/name": "web"}, True),
        (" tier  in(a , b) , app ", {"tier": "a", "app": ""}, True),
        ("tier in ()", {"tier": ""}, True),
        ("tier in (a,)", {"tier": ""}, True),
        ("tier notin (a),tier", {"tier": "b"}, True),
        ("tier notin (a),tier", {}, False),
        ("a=1,a!=2", {"a": "1"}, True),
        ("app!=", {"app": ""}, False),
        ("in=x", {"in": "x"}, True),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_a_label_selector_selects(selector: str, labels: dict[str, str], matches: bool) -> None:
    parsed = LabelSelector.parse(selector)
    assert parsed.matches(labels) is matches
    assert LabelSelector.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("=web", '"=" is not a label\'s key'),
        ("app=web,", "missing after the last comma"),
        (",app", '"," is not a label\'s key'),
        ("app in a", '"a" stands where "\\("'),
        ("app in (a", 'the end stands where "\\)"'),
        ("app~b", '"app~b" is not a label\'s key'),
        ("a b", '"b" stands where ","'),
        ("-a", '"-a" is not a label\'s key'),
        ("a=b=c", '"=" stands where ","'),
        ("!a=b", '"=" stands where ","'),
        ("a=-b", '"-b" is not a label\'s value'),
        (f"a={'x' * 64}", "is not a label's value"),
        (f"{'x' * 64}", "is not a label's key"),
        ("Example.com/a", "is not a label's key"),
        ("/a", "is not a label's key"),
        ("a/b/c", "is not a label's key"),
        ("a in (b/c)", "is not a label's value"),
        ("a>1", "is not a label's key"),
    ],
)
def test_a_wrong_label_selector_says_which_part(selector: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        LabelSelector.parse(selector)


def test_a_long_selector_takes_no_longer_than_its_length_says() -> None:
    """These took quadratic time once; the suite's own limit would notice."""
    for text in ("," * 200_000, "a" * 200_000, "(" * 200_000, "a" + " " * 200_000 + "\n~"):
        with pytest.raises(Invalid):
            LabelSelector.parse(text)
    with pytest.raises(Invalid):
        FieldSelector.parse("metadata.nam=" + " " * 200_000 + "\n", kinds.POD)
    assert len(LabelSelector.parse(",".join(["a=b"] * 50_000)).requirements) == 50_000


def test_a_manifests_selector_is_the_same_thing() -> None:
    message = v1.LabelSelector(
        match_labels={"app": "web"},
        match_expressions=[
            v1.LabelSelectorRequirement(key="tier", operator="In", values=["a", "b"]),
            v1.LabelSelectorRequirement(key="canary", operator="DoesNotExist"),
        ],
    )
    assert LabelSelector.from_message(message) == LabelSelector.parse("app=web,tier in (a,b),!canary")
    assert LabelSelector.from_labels({"b": "2", "a": "1"}) == LabelSelector.parse("a=1,b=2")


POD = v1.Pod(
    metadata=v1.ObjectMeta(name="web", namespace="default"),
    spec=v1.PodSpec(node_name="n1"),
    status=v1.PodStatus(phase="Running"),
)


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("metadata.name=web", True),
        ("spec.nodeName=n1,status.phase!=Failed", True),
        ("spec.nodeName==n2", False),
        ("spec.nodeName=", False),
        ("status.phase!=Running", False),
        (r"metadata.name=we\,b", False),
        (" spec.nodeName = n1 , ", True),
        ("spec.restartPolicy=Never", False),
        ("spec.hostNetwork=false,status.nominatedNodeName=,spec.serviceAccountName=", True),
    ],
)
def test_a_field_selector_selects(selector: str, matches: bool) -> None:
    parsed = FieldSelector.parse(selector, kinds.POD)
    assert parsed.matches(POD) is matches
    assert FieldSelector.parse(str(parsed), kinds.POD) == parsed


def test_an_index_can_use_the_value_that_must_be_equal() -> None:
    parsed = FieldSelector.parse("spec.nodeName=n1,status.phase!=Failed", kinds.POD)
    assert (parsed.exact("spec.nodeName"), parsed.exact("status.phase")) == ("n1", None)


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("spec.nodeName", "is not path=value"),
        ("spec.image=x", 'pods cannot be selected by "spec.image", only by metad'),
    ],
)
def test_a_wrong_field_selector_says_what_can_be_selected(selector: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        FieldSelector.parse(selector, kinds.POD)
