"""The environment of a container, from its `env`: values with references to the variables before them expanded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nodeagent.containers.errors import ContainerError
from nodeagent.containers.process import expand
from podwire import v1

CONFIG_ERROR: Final = "CreateContainerConfigError"


def environment(container: v1.Container) -> Sequence[tuple[str, str]]:
    """Name and value of each variable, in order; the last of two with one name wins. Raises ContainerError."""
    if container.env_from:
        raise ContainerError(CONFIG_ERROR, f'container "{container.name}": envFrom is not supported yet')
    variables: dict[str, str] = {}
    for variable in container.env:
        if variable.HasField("value_from"):
            raise ContainerError(
                CONFIG_ERROR, f'container "{container.name}": env "{variable.name}": valueFrom is not supported yet'
            )
        variables[variable.name] = expand(variable.value, variables)
    return tuple(variables.items())
