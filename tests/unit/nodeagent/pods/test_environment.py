"""The variables of a container, and what is not supported yet."""

from __future__ import annotations

import pytest

from nodeagent.containers.errors import ContainerError
from nodeagent.pods.environment import environment
from podwire import v1


def container(*env: tuple[str, str]) -> v1.Container:
    return v1.Container(name="web", env=[v1.EnvVar(name=name, value=value) for name, value in env])


def test_values_refer_to_variables_before_them() -> None:
    wanted = container(("HOST", "db"), ("URL", "http://$(HOST):$(PORT)/"), ("PORT", "80"), ("RAW", "$$(HOST)"))
    assert environment(wanted) == (
        ("HOST", "db"),
        ("URL", "http://db:$(PORT)/"),
        ("PORT", "80"),
        ("RAW", "$(HOST)"),
    )


def test_the_last_of_two_with_one_name_wins() -> None:
    assert environment(container(("A", "1"), ("A", "2"))) == (("A", "2"),)


def test_value_from_is_refused_by_name() -> None:
    wanted = container()
    wanted.env.add(name="IP").value_from.field_ref.field_path = "status.podIP"
    with pytest.raises(ContainerError, match='container "web": env "IP": valueFrom is not supported yet') as raised:
        environment(wanted)
    assert raised.value.reason == "CreateContainerConfigError"


def test_env_from_is_refused() -> None:
    wanted = v1.Container(name="web", env_from=[v1.EnvFromSource(prefix="X_")])
    with pytest.raises(ContainerError, match="envFrom is not supported yet"):
        environment(wanted)
