"""Pods: what a pod's spec must be, and what may still change of it once it is there."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

from podwire import tree_codec, v1
from podwire.validation import names
from podwire.validation.containers import LARGEST_ID, identity_and_profiles, resources, validate_container
from podwire.validation.metadata import labels, selector
from podwire.validation.problems import (
    Problems,
    at_least,
    between,
    fields_of,
    forbidden,
    invalid,
    one_of,
    required,
    unique,
    unsupported,
)
from podwire.validation.volumes import validate_volumes

RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NODE_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
_MOST_NAMESERVERS: Final = 3
_MOST_SEARCHES: Final = 32

# Digests of specs in which nothing was wrong, so that as many equal ones as there are pods are looked through once.
_SOUND_SPECS: Final[set[bytes]] = set()
_MOST_SOUND_SPECS: Final = 4_096

_UNCHANGEABLE: Final = (
    "pod updates may not change fields other than the containers' `image`, `spec.activeDeadlineSeconds`, "
    "`spec.tolerations` (only additions) and `spec.schedulingGates` (only removals): delete the pod and create it anew"
)


def validate_pod(pod: v1.Pod) -> Problems:
    # Pods of a workload differ in their metadata, and a pod that is changed seldom in its spec.
    digest = blake2b(pod.spec.SerializeToString(deterministic=True), digest_size=16).digest()
    if digest in _SOUND_SPECS:
        return
    sound = True
    for problem in validate_pod_spec("spec", pod.spec):
        sound = False
        yield problem
    if sound:
        if len(_SOUND_SPECS) >= _MOST_SOUND_SPECS:
            _SOUND_SPECS.clear()
        _SOUND_SPECS.add(digest)


def validate_pod_spec(path: str, spec: v1.PodSpec) -> Problems:
    yield from validate_volumes(f"{path}.volumes", spec.volumes)
    yield from _containers(path, spec)
    yield from one_of(f"{path}.restartPolicy", spec.restart_policy, RESTART_POLICIES)
    yield from at_least(f"{path}.terminationGracePeriodSeconds", spec.termination_grace_period_seconds, 0)
    if spec.HasField("active_deadline_seconds"):
        yield from between(f"{path}.activeDeadlineSeconds", spec.active_deadline_seconds, 1, 2**31 - 1)
    yield from _names(path, spec)
    yield from labels(f"{path}.nodeSelector", spec.node_selector)
    yield from _dns(path, spec)
    if spec.host_pid and spec.share_process_namespace:
        yield invalid(
            f"{path}.shareProcessNamespace", "true", "ShareProcessNamespace and HostPID cannot both be enabled"
        )
    yield from identity_and_profiles(f"{path}.securityContext", spec.security_context)
    yield from _scheduling(path, spec)
    for i, alias in enumerate(spec.host_aliases):
        yield from names.ip_address(f"{path}.hostAliases[{i}].ip", alias.ip)
        for j, hostname in enumerate(alias.hostnames):
            yield from names.dns_subdomain(f"{path}.hostAliases[{i}].hostnames[{j}]", hostname)
    for i, secret in enumerate(spec.image_pull_secrets):
        if not secret.name:
            yield required(f"{path}.imagePullSecrets[{i}].name")
    if spec.HasField("os"):
        yield from one_of(f"{path}.os.name", spec.os.name, ("linux", "windows"))
    yield from resources(f"{path}.resources", spec.resources)


def _containers(path: str, spec: v1.PodSpec) -> Problems:
    if not spec.containers:
        yield required(f"{path}.containers")
    volumes = {volume.name for volume in spec.volumes}
    both = [(f".initContainers[{i}]", container, True) for i, container in enumerate(spec.init_containers)] + [
        (f".containers[{i}]", container, False) for i, container in enumerate(spec.containers)
    ]
    for below, container, init in both:
        yield from validate_container(f"{path}{below}", container, volumes, init=init)
    yield from unique(path, ((f"{below}.name", container.name) for below, container, _ in both))
    host_ports = [
        (f"{below}.ports[{i}].hostPort", f"{port.host_ip}:{port.host_port}/{port.protocol}" if port.host_port else "")
        for below, container, _ in both
        for i, port in enumerate(container.ports)
    ]
    yield from unique(path, host_ports)
    for below, container, _ in both if spec.host_network else ():
        for i, port in enumerate(container.ports):
            if port.host_port != port.container_port:
                yield invalid(
                    f"{path}{below}.ports[{i}].containerPort",
                    port.container_port,
                    "must match `hostPort` when `hostNetwork` is true",
                )


def _names(path: str, spec: v1.PodSpec) -> Problems:
    for field, value in (
        ("nodeName", spec.node_name),
        ("serviceAccountName", spec.service_account_name),
        ("priorityClassName", spec.priority_class_name),
        ("runtimeClassName", spec.runtime_class_name),
    ):
        if value:
            yield from names.dns_subdomain(f"{path}.{field}", value)
    for field, value in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if value:
            yield from names.dns_label(f"{path}.{field}", value)
    if not spec.scheduler_name:
        yield required(f"{path}.schedulerName")


def _dns(path: str, spec: v1.PodSpec) -> Problems:
    yield from one_of(f"{path}.dnsPolicy", spec.dns_policy, _DNS_POLICIES)
    config, inner = spec.dns_config, f"{path}.dnsConfig"
    if spec.dns_policy == "None" and not config.nameservers:
        yield required(f"{inner}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
    for field, count, most in (
        ("nameservers", len(config.nameservers), _MOST_NAMESERVERS),
        ("searches", len(config.searches), _MOST_SEARCHES),
    ):
        if count > most:
            yield invalid(f"{inner}.{field}", count, f"must not have more than {most} {field}")
    for i, address in enumerate(config.nameservers):
        yield from names.ip_address(f"{inner}.nameservers[{i}]", address)
    for i, option in enumerate(config.options):
        if not option.name:
            yield required(f"{inner}.options[{i}].name")


def _scheduling(path: str, spec: v1.PodSpec) -> Problems:
    for i, toleration in enumerate(spec.tolerations):
        yield from _toleration(f"{path}.tolerations[{i}]", toleration)
    if spec.HasField("affinity"):
        yield from _affinity(f"{path}.affinity", spec.affinity)
    for i, constraint in enumerate(spec.topology_spread_constraints):
        inner = f"{path}.topologySpreadConstraints[{i}]"
        yield from at_least(f"{inner}.maxSkew", constraint.max_skew, 1)
        yield from names.qualified_name(f"{inner}.topologyKey", constraint.topology_key)
        yield from one_of(
            f"{inner}.whenUnsatisfiable", constraint.when_unsatisfiable, ("DoNotSchedule", "ScheduleAnyway")
        )
        yield from selector(f"{inner}.labelSelector", constraint.label_selector)
    for i, gate in enumerate(spec.scheduling_gates):
        yield from names.qualified_name(f"{path}.schedulingGates[{i}].name", gate.name)
    for i, readiness in enumerate(spec.readiness_gates):
        yield from names.qualified_name(f"{path}.readinessGates[{i}].conditionType", readiness.condition_type)
    if spec.preemption_policy:
        yield from one_of(f"{path}.preemptionPolicy", spec.preemption_policy, ("PreemptLowerPriority", "Never"))


def _toleration(path: str, toleration: v1.Toleration) -> Problems:
    if toleration.key:
        yield from names.qualified_name(f"{path}.key", toleration.key)
    elif toleration.operator != "Exists":
        yield invalid(f"{path}.operator", toleration.operator, "operator must be Exists when `key` is empty")
    if toleration.operator not in ("", "Equal", "Exists"):
        yield unsupported(f"{path}.operator", toleration.operator, ("Equal", "Exists"))
    if toleration.operator == "Exists" and toleration.value:
        yield invalid(f"{path}.value", toleration.value, "value must be empty when `operator` is 'Exists'")
    if toleration.effect:
        yield from one_of(f"{path}.effect", toleration.effect, _EFFECTS)
    if toleration.HasField("toleration_seconds") and toleration.effect != "NoExecute":
        yield invalid(f"{path}.effect", toleration.effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")


def _affinity(path: str, affinity: v1.Affinity) -> Problems:
    required_field = "requiredDuringSchedulingIgnoredDuringExecution"
    preferred_field = "preferredDuringSchedulingIgnoredDuringExecution"
    node = fields_of(affinity.node_affinity)
    if required_field in node:
        terms_path = f"{path}.nodeAffinity.{required_field}.nodeSelectorTerms"
        terms = node[required_field].node_selector_terms
        if not terms:
            yield required(terms_path, "must have at least one node selector term")
        for i, term in enumerate(terms):
            yield from _node_term(f"{terms_path}[{i}]", term)
    for i, preferred in enumerate(node.get(preferred_field, ())):
        inner = f"{path}.nodeAffinity.{preferred_field}[{i}]"
        yield from between(f"{inner}.weight", preferred.weight, 1, 100)
        yield from _node_term(f"{inner}.preference", preferred.preference)
    for field, pods in fields_of(affinity, "podAffinity", "podAntiAffinity").items():
        chosen = fields_of(pods)
        for i, term in enumerate(chosen.get(required_field, ())):
            yield from _pod_term(f"{path}.{field}.{required_field}[{i}]", term)
        for i, weighted in enumerate(chosen.get(preferred_field, ())):
            inner = f"{path}.{field}.{preferred_field}[{i}]"
            yield from between(f"{inner}.weight", weighted.weight, 1, 100)
            yield from _pod_term(f"{inner}.podAffinityTerm", weighted.pod_affinity_term)


def _node_term(path: str, term: v1.NodeSelectorTerm) -> Problems:
    for field in ("matchExpressions", "matchFields"):
        for i, requirement in enumerate(fields_of(term).get(field, ())):
            inner = f"{path}.{field}[{i}]"
            yield from names.qualified_name(f"{inner}.key", requirement.key)
            yield from one_of(f"{inner}.operator", requirement.operator, _NODE_OPERATORS)
            if requirement.operator in ("In", "NotIn") and not requirement.values:
                yield required(f"{inner}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            if requirement.operator in ("Exists", "DoesNotExist") and requirement.values:
                yield forbidden(f"{inner}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
            if requirement.operator in ("Gt", "Lt") and len(requirement.values) != 1:
                yield required(f"{inner}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")


def _pod_term(path: str, term: v1.PodAffinityTerm) -> Problems:
    if not term.topology_key:
        yield required(f"{path}.topologyKey", "can not be empty")
    else:
        yield from names.qualified_name(f"{path}.topologyKey", term.topology_key)
    yield from selector(f"{path}.labelSelector", term.label_selector)
    yield from selector(f"{path}.namespaceSelector", term.namespace_selector)


def validate_pod_update(old: v1.Pod, new: v1.Pod) -> Problems:
    """What may change of a pod that is there; a node it gets by Bind alone."""
    if old.spec == new.spec:
        return
    allowed = v1.PodSpec()
    allowed.CopyFrom(new.spec)
    for field in ("containers", "init_containers"):
        before, after = getattr(old.spec, field), getattr(allowed, field)
        if len(before) == len(after):
            for container, changed in zip(before, after, strict=True):
                changed.image = container.image
    if _deadline_may_change(old.spec, new.spec):
        allowed.ClearField("active_deadline_seconds")
        if old.spec.HasField("active_deadline_seconds"):
            allowed.active_deadline_seconds = old.spec.active_deadline_seconds
    if all(toleration in new.spec.tolerations for toleration in old.spec.tolerations):
        del allowed.tolerations[:]
        allowed.tolerations.extend(old.spec.tolerations)
    if all(gate in old.spec.scheduling_gates for gate in new.spec.scheduling_gates):
        del allowed.scheduling_gates[:]
        allowed.scheduling_gates.extend(old.spec.scheduling_gates)
    for path in _differences("spec", tree_codec.to_tree(old.spec), tree_codec.to_tree(allowed)):
        yield forbidden(path, _UNCHANGEABLE)


def _deadline_may_change(old: v1.PodSpec, new: v1.PodSpec) -> bool:
    """It may be set, and made shorter."""
    if not new.HasField("active_deadline_seconds"):
        return False
    within = new.active_deadline_seconds <= old.active_deadline_seconds or not old.HasField("active_deadline_seconds")
    return within and 0 < new.active_deadline_seconds <= LARGEST_ID


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    """The paths at which two trees differ, as deep as they have the same shape."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(f"{path}.{key}", old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{i}]", before, after)
    elif old != new:
        yield path
