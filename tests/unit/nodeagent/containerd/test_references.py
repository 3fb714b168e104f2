"""Image references, as people write them and as containerd names them."""

import pytest

from nodeagent.containerd.references import InvalidReference, parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("grafana/loki", "docker.io/grafana/loki:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/library/alpine:3", "docker.io/library/alpine:3"),
        ("ghcr.io/org/team/app:v1", "ghcr.io/org/team/app:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:a", "localhost:5000/app:a"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"quay.io/x/y:v1@{DIGEST}", f"quay.io/x/y@{DIGEST}"),
        ("my__image/a-b--c.d", "docker.io/my__image/a-b--c.d:latest"),
    ],
)
def test_a_reference_is_given_what_it_leaves_out(written: str, meant: str) -> None:
    assert str(parse(written)) == meant


@pytest.mark.parametrize(
    "text",
    ["", "Nginx", "nginx:", "nginx:a b", "nginx@sha256:12", "a//b", "-nginx", "nginx/", "/nginx", "docker.io/",
     "x" * 300, "nginx:" + "t" * 129, "http://registry/app", "exämple"],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse(text)


def test_an_error_says_what_to_change() -> None:
    with pytest.raises(InvalidReference, match='"library/Nginx" must be lower case'):
        parse("docker.io/library/Nginx")
