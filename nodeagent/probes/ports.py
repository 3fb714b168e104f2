"""The port that a probe means: a number, or the name of one of the container's ports."""

from __future__ import annotations

from podwire import v1


class NoSuchPort(ValueError):
    """The container has no port of that name."""


def port_number(port: v1.IntOrString, container: v1.Container) -> int:
    if port.WhichOneof("value") == "int":
        return port.int
    if port.string.isdecimal():
        return int(port.string)
    for candidate in container.ports:
        if candidate.name == port.string:
            return candidate.container_port
    raise NoSuchPort(f'container "{container.name}" has no port named "{port.string}"')
