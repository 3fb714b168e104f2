"""Paths into objects."""

from typing import Any

import pytest

from podctl.failures import UsageError
from podctl.jsonpath import parse, render, values

POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "shop"}},
    "status": {"phase": "Running", "containerStatuses": [{"name": "a", "ready": True}, {"name": "b", "ready": False}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("{.status.phase}", ["Running"]),
        ("status.phase", ["Running"]),
        ("{.status.containerStatuses[0].ready}", [True]),
        ("{.status.containerStatuses[-1].name}", ["b"]),
        ("{.status.containerStatuses[*].name}", ["a", "b"]),
        ("{.metadata.labels['app.kubernetes.io/name']}", ["shop"]),
        (r"{.metadata.labels.app\.kubernetes\.io/name}", ["shop"]),
        ("{.status.containerStatuses[7].name}", []),
        ("{.spec.nodeName}", []),
        ("{$.metadata.name}", ["web"]),
    ],
)
def test_paths_lead_to_values(path: str, found: list[Any]) -> None:
    assert list(values(POD, parse(path))) == found


@pytest.mark.parametrize("path", ["{.a[}", "{.a..b}", "{.a[?(@.b)]}"])
def test_what_is_not_understood_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="jsonpath"):
        parse(path)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.metadata.name}", "web"),
        (".metadata.name", "web"),
        ('{.metadata.name}{"\\n"}', "web\n"),
        ("{.metadata.name} is {.status.phase}", "web is Running"),
        ("{.status.containerStatuses[*].ready}", "true false"),
    ],
)
def test_templates_are_filled_in(template: str, text: str) -> None:
    assert render(template, POD) == text
