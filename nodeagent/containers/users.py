"""Who a container runs as: users and groups by name, from the image's own /etc/passwd and /etc/group.

The forms are Docker's: `user`, `user:group`, each a name or a number; what is not said comes from the files, and a
number that the files do not know is taken as it is, with group 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.containers.errors import ContainerError
from podwire import v1


@dataclass(frozen=True, slots=True)
class User:
    """A line of passwd."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Group:
    """A line of group."""

    name: str
    gid: int
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The users and groups that an image knows."""

    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()

    @classmethod
    def parse(cls, passwd: str, group: str) -> Accounts:
        """Lines that are broken are passed over, as the C library does."""
        users = []
        for line in passwd.splitlines():
            match line.split(":"):
                case [name, _, uid, gid, *_] if uid.isdecimal() and gid.isdecimal():
                    users.append(User(name, int(uid), int(gid)))
        groups = []
        for line in group.splitlines():
            match line.split(":"):
                case [name, _, gid, members, *_] if gid.isdecimal():
                    groups.append(Group(name, int(gid), frozenset(filter(None, members.split(",")))))
        return cls(tuple(users), tuple(groups))

    def user(self, text: str) -> User | None:
        """The user called `text`, or with that number."""
        named = next((user for user in self.users if user.name == text), None)
        if named is None and text.isdecimal():
            return next((user for user in self.users if user.uid == int(text)), None)
        return named

    def group(self, text: str) -> Group | None:
        """The group called `text`, or with that number."""
        named = next((group for group in self.groups if group.name == text), None)
        if named is None and text.isdecimal():
            return next((group for group in self.groups if group.gid == int(text)), None)
        return named


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def identity(
    image_user: str, pod: v1.PodSecurityContext, container: v1.SecurityContext, accounts: Accounts
) -> Identity:
    """What a container of an image with USER `image_user` runs as. Raises ContainerError.

    Where the container says nothing the pod counts, then the image. Groups are the primary one, those of the image
    that list the user, the pod's supplementalGroups, and its fsGroup.
    """
    run_as_user = _first(container, pod, "run_as_user")
    run_as_group = _first(container, pod, "run_as_group")
    name, _, group_name = image_user.partition(":") if run_as_user is None else (str(run_as_user), "", "")
    user = accounts.user(name or "0")
    if user is None:
        if name and not name.isdecimal():
            raise _config_error(f'the image runs as user "{name}", whom its /etc/passwd does not have')
        user = User("", int(name or "0"), 0)
    _check_non_root(name, user, pod, container)
    gid = user.gid
    if group_name:
        group = accounts.group(group_name)
        if group is None and not group_name.isdecimal():
            raise _config_error(f'the image runs as group "{group_name}", which its /etc/group does not have')
        gid = group.gid if group else int(group_name)
    if run_as_group is not None:
        gid = run_as_group
    groups = {gid, *pod.supplemental_groups}
    if pod.supplemental_groups_policy != "Strict":
        groups.update(group.gid for group in accounts.groups if user.name and user.name in group.members)
    if pod.HasField("fs_group"):
        groups.add(pod.fs_group)
    return Identity(user.uid, gid, tuple(sorted(groups)))


def _check_non_root(name: str, user: User, pod: v1.PodSecurityContext, container: v1.SecurityContext) -> None:
    if not _first(container, pod, "run_as_non_root"):
        return
    if user.uid == 0:
        raise _config_error("the container has runAsNonRoot and would run as root: set runAsUser, or change the image")
    if name and not name.isdecimal():
        raise _config_error(
            f'the container has runAsNonRoot and the image\'s user "{name}" is not a number, so that it cannot be '
            "verified: set runAsUser"
        )


def _first(container: v1.SecurityContext, pod: v1.PodSecurityContext, field: str) -> int | None:
    for context in (container, pod):
        if context.HasField(field):  # type: ignore[arg-type]
            return int(getattr(context, field))
    return None


def _config_error(message: str) -> ContainerError:
    return ContainerError("CreateContainerConfigError", message)
