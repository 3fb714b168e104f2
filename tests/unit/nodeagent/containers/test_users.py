"""Who a container runs as."""

import pytest

from nodeagent.containers.errors import ContainerError
from nodeagent.containers.users import Accounts, Identity, identity
from podwire import v1

ACCOUNTS = Accounts.parse(
    "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/:/bin/sh\nbroken line\nhalf:x:y:1\n",
    "root:x:0:\nwheel:x:10:root\nweb:x:1001:\nextra:x:2000:web,other\nbroken\n",
)


def who(user: str, *, pod: v1.PodSecurityContext | None = None, **container: object) -> Identity:
    context = v1.SecurityContext(**container)  # type: ignore[arg-type]
    return identity(user, pod or v1.PodSecurityContext(), context, ACCOUNTS)


@pytest.mark.parametrize(
    ("user", "meant"),
    [
        ("", Identity(0, 0, (0, 10))),
        ("root", Identity(0, 0, (0, 10))),
        ("web", Identity(1000, 1001, (1001, 2000))),
        ("1000", Identity(1000, 1001, (1001, 2000))),
        ("1000:0", Identity(1000, 0, (0, 2000))),
        ("web:extra", Identity(1000, 2000, (2000,))),
        ("4711", Identity(4711, 0, (0,))),
        ("4711:4712", Identity(4711, 4712, (4712,))),
    ],
)
def test_an_images_user_is_looked_up_in_its_files(user: str, meant: Identity) -> None:
    assert who(user) == meant


def test_the_container_counts_more_than_the_pod_and_the_pod_more_than_the_image() -> None:
    pod = v1.PodSecurityContext(run_as_user=5000, run_as_group=6000)
    assert who("web", pod=pod) == Identity(5000, 6000, (6000,))
    assert who("web", pod=pod, run_as_user=1000).uid == 1000
    assert who("web", run_as_user=0).uid == 0


def test_the_pods_groups_are_added() -> None:
    pod = v1.PodSecurityContext(fs_group=3000, supplemental_groups=[4000, 5000])
    assert who("web", pod=pod).groups == (1001, 2000, 3000, 4000, 5000)
    pod.supplemental_groups_policy = "Strict"
    assert who("web", pod=pod).groups == (1001, 3000, 4000, 5000)


@pytest.mark.parametrize(("user", "problem"), [("nobody", 'user "nobody"'), ("web:nogroup", 'group "nogroup"')])
def test_a_name_that_the_image_does_not_know_is_an_error(user: str, problem: str) -> None:
    with pytest.raises(ContainerError, match=problem) as caught:
        who(user)
    assert caught.value.reason == "CreateContainerConfigError"


@pytest.mark.parametrize("user", ["", "0", "root", "0:1000"])
def test_run_as_non_root_refuses_root(user: str) -> None:
    with pytest.raises(ContainerError, match="runAsNonRoot"):
        who(user, run_as_non_root=True)


def test_run_as_non_root_cannot_verify_a_name() -> None:
    with pytest.raises(ContainerError, match="not a number"):
        who("web", run_as_non_root=True)
    assert who("1000", run_as_non_root=True).uid == 1000
    assert who("web", run_as_non_root=True, run_as_user=1000).uid == 1000
    assert who("root", run_as_non_root=True, run_as_user=1000).uid == 1000
