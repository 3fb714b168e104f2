"""The environment of a container, from its `env`: values with references to other variables expanded.

`$(NAME)` stands for a variable named before; `$$` is a dollar sign, so `$$(NAME)` stays `$(NAME)`; a reference to
nothing stays as it is. The rules are Kubernetes' (third_party/forked/golang/expansion).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from podwire import v1

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


class ConfigError(Exception):
    """The container's configuration cannot be put together; the message says why."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        return variables.get(name, match[0])

    return _REFERENCE.sub(replacement, text)


def environment(container: v1.Container) -> Sequence[tuple[str, str]]:
    """Name and value of each variable, in order; the last of two with one name wins."""
    if container.env_from:
        raise ConfigError(f'container "{container.name}": envFrom is not supported yet')
    variables: dict[str, str] = {}
    for variable in container.env:
        if variable.HasField("value_from"):
            raise ConfigError(f'container "{container.name}": env "{variable.name}": valueFrom is not supported yet')
        variables[variable.name] = expand(variable.value, variables)
    return tuple(variables.items())
