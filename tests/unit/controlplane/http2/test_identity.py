"""Whom a connection belongs to, by the subject of its certificate."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.http2.identity import Identity, identity_of


@pytest.mark.parametrize(
    ("subject", "name", "organizations"),
    [
        pytest.param(
            ((("organizationName", "nodes"),), (("commonName", "vm-1"),), (("organizationName", "others"),)),
            "vm-1",
            {"nodes", "others"},
            id="a part for each name",
        ),
        pytest.param(((("commonName", "vm-1"), ("organizationName", "nodes")),), "vm-1", {"nodes"}, id="one part"),
        pytest.param(((("commonName", "a"),), (("commonName", "b"),)), "a", set(), id="the first common name counts"),
        pytest.param(((("commonName", "nodes"),),), "nodes", set(), id="a common name is no organization"),
    ],
)
def test_an_identity_is_the_common_name_and_all_organizations(
    subject: tuple[Any, ...], name: str, organizations: set[str]
) -> None:
    assert identity_of({"subject": subject, "version": 3}) == Identity(name, frozenset(organizations))


def test_who_has_no_common_name_goes_by_the_whole_subject() -> None:
    subject = ((("countryName", "DE"),), (("organizationName", "admin"),))
    found = identity_of({"subject": subject})
    assert found == Identity("countryName=DE,organizationName=admin", frozenset({"admin"}))


@pytest.mark.parametrize("certificate", [{}, {"subject": ()}])
def test_an_empty_certificate_is_nobodys(certificate: dict[str, Any]) -> None:
    assert identity_of(certificate) == Identity("", frozenset())
