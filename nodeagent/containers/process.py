"""What a container runs: the image's configuration and the pod's spec, put together as Kubernetes does. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nodeagent.containers.errors import ContainerError
from nodeagent.containers.users import Accounts, Identity, identity
from nodeagent.model import Image
from podwire import v1

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^()]*)\))")

# SIGTERM, TERM, 15, RTMIN+3.
_SIGNAL: Final = re.compile(r"(?P<number>[0-9]+)|(?:SIG)?(?P<name>[A-Z0-9]+?)(?P<offset>[+-][0-9]+)?")


@dataclass(frozen=True, slots=True)
class Process:
    """A container's first process."""

    arguments: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    identity: Identity
    capabilities: tuple[str, ...]
    no_new_privileges: bool
    terminal: bool

    def to_oci(self) -> dict[str, Any]:
        """The `process` of the OCI runtime specification. No limit is set: a hard one must never be raised."""
        return {
            "terminal": self.terminal,
            "user": {
                "uid": self.identity.uid,
                "gid": self.identity.gid,
                "additionalGids": list(self.identity.groups),
            },
            "args": list(self.arguments),
            "env": list(self.env),
            "cwd": self.working_dir,
            # Not inheritable: a container without root would keep them through every exec (CVE-2022-24769).
            "capabilities": {kind: list(self.capabilities) for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": self.no_new_privileges,
        }


def process(
    image: Image,
    pod: v1.Pod,
    container: v1.Container,
    *,
    env: Sequence[tuple[str, str]],
    hostname: str,
    accounts: Accounts,
    capabilities: tuple[str, ...],
) -> Process:
    """What `container` of `pod` runs; `env` is what its spec says of the environment. Raises ContainerError."""
    context = container.security_context
    environment = _environment(image.env, env, hostname, terminal=container.tty)
    allowed = context.allow_privilege_escalation if context.HasField("allow_privilege_escalation") else True
    return Process(
        arguments=_arguments(image, container, environment),
        env=tuple(f"{name}={value}" for name, value in environment.items()),
        working_dir=container.working_dir or image.working_dir or "/",
        identity=identity(image.user, pod.spec.security_context, context, accounts),
        capabilities=capabilities,
        no_new_privileges=not allowed and not context.privileged,
        terminal=container.tty,
    )


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by its value where there is one; `$$` is a dollar sign, so that `$$(NAME)` stays as text."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else env.get(name, match[0])

    return _REFERENCE.sub(value, text)


def stop_signal(image: Image, container: v1.Container) -> int:
    """The signal that asks the container to end: its own, else the image's, else SIGTERM. Raises ContainerError."""
    text = container.lifecycle.stop_signal or image.stop_signal or "SIGTERM"
    match = _SIGNAL.fullmatch(text.upper())
    number = 0
    if match and match["number"]:
        number = int(match["number"])
    elif match:
        number = int(getattr(signal, f"SIG{match['name']}", 0)) + int(match["offset"] or 0)
    if not 1 <= number <= signal.SIGRTMAX:
        raise ContainerError("CreateContainerConfigError", f'there is no signal "{text}"')
    return number


def _environment(
    image_env: Sequence[str], env: Sequence[tuple[str, str]], hostname: str, *, terminal: bool
) -> dict[str, str]:
    environment = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if terminal:
        environment["TERM"] = "xterm"
    for entry in image_env:
        name, _, value = entry.partition("=")
        environment[name] = value
    environment.update(env)
    return environment


def _arguments(image: Image, container: v1.Container, env: Mapping[str, str]) -> tuple[str, ...]:
    command = tuple(expand(word, env) for word in container.command)
    arguments = tuple(expand(word, env) for word in container.args)
    if not command:
        # The image's own arguments are for the image's own entrypoint.
        command, arguments = image.entrypoint, arguments or image.command
    if not command + arguments:
        raise ContainerError(
            "CreateContainerError", "there is no command to run: neither the image nor the container has one"
        )
    return command + arguments
