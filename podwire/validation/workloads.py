"""Deployments and replica sets: a selector, a template that it matches, and how pods are replaced."""

from __future__ import annotations

import re
from typing import Final

from podwire import v1
from podwire.selectors import LabelSelector
from podwire.validation.metadata import labels, selector
from podwire.validation.pods import validate_pod_spec
from podwire.validation.problems import Problems, at_least, forbidden, invalid, required, unsupported

_PERCENT: Final = re.compile("[0-9]+%")


def validate_deployment(deployment: v1.Deployment) -> Problems:
    spec = deployment.spec
    yield from _replicated(spec, "deployment")
    yield from at_least("spec.revisionHistoryLimit", spec.revision_history_limit, 0)
    yield from at_least("spec.progressDeadlineSeconds", spec.progress_deadline_seconds, 0)
    if spec.progress_deadline_seconds <= spec.min_ready_seconds:
        yield invalid(
            "spec.progressDeadlineSeconds", spec.progress_deadline_seconds, "must be greater than minReadySeconds"
        )
    yield from _strategy("spec.strategy", spec.strategy)


def validate_replica_set(replica_set: v1.ReplicaSet) -> Problems:
    yield from _replicated(replica_set.spec, "replica set")


def validate_workload_update(old: v1.Deployment | v1.ReplicaSet, new: v1.Deployment | v1.ReplicaSet) -> Problems:
    if old.spec.selector != new.spec.selector:
        yield invalid("spec.selector", str(LabelSelector.from_message(new.spec.selector)), "field is immutable")


def _replicated(spec: v1.DeploymentSpec | v1.ReplicaSetSpec, what: str) -> Problems:
    yield from at_least("spec.replicas", spec.replicas, 0)
    yield from at_least("spec.minReadySeconds", spec.min_ready_seconds, 0)
    template = spec.template
    wrong_selector = list(selector("spec.selector", spec.selector))
    yield from wrong_selector
    if not spec.selector.match_labels and not spec.selector.match_expressions:
        yield required("spec.selector", f"an empty selector is invalid for a {what}: name labels of the template")
    elif not wrong_selector and not LabelSelector.from_message(spec.selector).matches(template.metadata.labels):
        yield invalid(
            "spec.template.metadata.labels",
            ",".join(f"{key}={value}" for key, value in sorted(template.metadata.labels.items())),
            "`selector` does not match template `labels`",
        )
    yield from labels("spec.template.metadata.labels", template.metadata.labels)
    yield from validate_pod_spec("spec.template.spec", template.spec)
    if template.spec.restart_policy not in ("", "Always"):
        yield unsupported("spec.template.spec.restartPolicy", template.spec.restart_policy, ("Always",))
    if template.spec.HasField("active_deadline_seconds"):
        yield forbidden(
            "spec.template.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in a {what} is not supported"
        )


def _strategy(path: str, strategy: v1.DeploymentStrategy) -> Problems:
    if strategy.type == "Recreate":
        if strategy.HasField("rolling_update"):
            yield forbidden(f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
        return
    if strategy.type != "RollingUpdate":
        yield unsupported(f"{path}.type", strategy.type, ("Recreate", "RollingUpdate"))
        return
    rolling = strategy.rolling_update
    yield from _share(f"{path}.rollingUpdate.maxUnavailable", rolling.max_unavailable)
    yield from _share(f"{path}.rollingUpdate.maxSurge", rolling.max_surge)
    if _is_zero(rolling.max_unavailable) and _is_zero(rolling.max_surge):
        yield invalid(f"{path}.rollingUpdate.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")
    if _PERCENT.fullmatch(rolling.max_unavailable.string) and int(rolling.max_unavailable.string[:-1]) > 100:
        yield invalid(
            f"{path}.rollingUpdate.maxUnavailable", rolling.max_unavailable.string, "must not be greater than 100%"
        )


def _share(path: str, value: v1.IntOrString) -> Problems:
    if value.WhichOneof("value") == "string":
        if not _PERCENT.fullmatch(value.string):
            yield invalid(path, value.string, "must be an integer or percentage (e.g '5%%')")
    else:
        yield from at_least(path, value.int, 0)


def _is_zero(value: v1.IntOrString) -> bool:
    return value.int == 0 and value.string.rstrip("%").strip("0") == ""
