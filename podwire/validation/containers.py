"""Containers: image, ports, environment, mounts, resources, probes, hooks, security."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from podwire import quantity, v1
from podwire.validation import names
from podwire.validation.problems import (
    Problems,
    at_least,
    between,
    fields_of,
    forbidden,
    invalid,
    not_found,
    one_of,
    required,
    unique,
    unsupported,
)

PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_TERMINATION_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROPAGATIONS: Final = ("None", "HostToContainer", "Bidirectional")
_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
LARGEST_ID: Final = 2**31 - 1


def validate_container(path: str, container: v1.Container, volumes: Collection[str], *, init: bool) -> Problems:
    yield from names.dns_label(f"{path}.name", container.name)
    if not container.image:
        yield required(f"{path}.image")
    elif container.image != container.image.strip():
        yield invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace")
    yield from one_of(f"{path}.imagePullPolicy", container.image_pull_policy, _PULL_POLICIES)
    yield from one_of(f"{path}.terminationMessagePolicy", container.termination_message_policy, _TERMINATION_POLICIES)
    yield from _ports(f"{path}.ports", container)
    yield from _environment(path, container)
    yield from _mounts(path, container, volumes)
    yield from resources(f"{path}.resources", container.resources)
    sidecar = init and container.restart_policy == "Always"
    if container.restart_policy and not init:
        yield forbidden(f"{path}.restartPolicy", "may not be set for non-init containers")
    elif container.restart_policy and not sidecar:
        yield unsupported(f"{path}.restartPolicy", container.restart_policy, ("Always",))
    yield from _probes(path, container, init=init and not sidecar)
    if container.HasField("lifecycle"):
        yield from _lifecycle(f"{path}.lifecycle", container.lifecycle, init=init and not sidecar)
    if container.HasField("security_context"):
        yield from _security(f"{path}.securityContext", container.security_context)


def _ports(path: str, container: v1.Container) -> Problems:
    for i, port in enumerate(container.ports):
        inner = f"{path}[{i}]"
        if port.name:
            yield from names.port_name(f"{inner}.name", port.name)
        if not port.container_port:
            yield required(f"{inner}.containerPort")
        else:
            yield from names.port_number(f"{inner}.containerPort", port.container_port)
        if port.host_port:
            yield from names.port_number(f"{inner}.hostPort", port.host_port)
        if port.host_ip:
            yield from names.ip_address(f"{inner}.hostIP", port.host_ip)
        yield from one_of(f"{inner}.protocol", port.protocol, PROTOCOLS)
    yield from unique(path, ((f"[{i}].name", port.name) for i, port in enumerate(container.ports)))


def _environment(path: str, container: v1.Container) -> Problems:
    for i, variable in enumerate(container.env):
        inner = f"{path}.env[{i}]"
        yield from names.variable_name(f"{inner}.name", variable.name)
        if variable.HasField("value_from"):
            yield from _value_from(f"{inner}.valueFrom", variable)
    for i, source in enumerate(container.env_from):
        inner = f"{path}.envFrom[{i}]"
        if source.prefix:
            yield from names.variable_name(f"{inner}.prefix", source.prefix)
        chosen = fields_of(source, "configMapRef", "secretRef")
        if len(chosen) != 1:
            yield invalid(inner, "", "must specify exactly one of: `configMapRef` or `secretRef`")
        for name, reference in chosen.items():
            yield from names.dns_subdomain(f"{inner}.{name}.name", reference.name)


def _value_from(path: str, variable: v1.EnvVar) -> Problems:
    chosen = fields_of(variable.value_from)
    if not chosen:
        yield invalid(
            path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        )
    elif len(chosen) > 1:
        yield invalid(path, "", "may not have more than one field specified at a time")
    if variable.value:
        yield invalid(path, "", "may not be specified when `value` is not empty")
    for name, reference in chosen.items():
        match reference:
            case v1.ObjectFieldSelector() if not reference.field_path:
                yield required(f"{path}.{name}.fieldPath")
            case v1.ResourceFieldSelector() if not reference.resource:
                yield required(f"{path}.{name}.resource")
            case v1.ConfigMapKeySelector() | v1.SecretKeySelector():
                yield from names.dns_subdomain(f"{path}.{name}.name", reference.name)
                yield from names.data_key(f"{path}.{name}.key", reference.key)


def _mounts(path: str, container: v1.Container, volumes: Collection[str]) -> Problems:
    for i, mount in enumerate(container.volume_mounts):
        inner = f"{path}.volumeMounts[{i}]"
        if not mount.name:
            yield required(f"{inner}.name")
        elif mount.name not in volumes:
            yield not_found(f"{inner}.name", mount.name, "no volume of the pod has this name")
        if not mount.mount_path:
            yield required(f"{inner}.mountPath")
        elif not mount.mount_path.startswith("/"):
            # Kubernetes leaves this to the container runtime, which refuses it.
            yield invalid(f"{inner}.mountPath", mount.mount_path, "must be an absolute path")
        elif ":" in mount.mount_path:
            yield invalid(f"{inner}.mountPath", mount.mount_path, "must not contain ':'")
        if mount.sub_path:
            yield from names.relative_path(f"{inner}.subPath", mount.sub_path)
        if mount.sub_path_expr:
            yield from names.relative_path(f"{inner}.subPathExpr", mount.sub_path_expr)
            if mount.sub_path:
                yield invalid(
                    f"{inner}.subPathExpr", mount.sub_path_expr, "subPathExpr and subPath are mutually exclusive"
                )
        if mount.mount_propagation:
            yield from one_of(f"{inner}.mountPropagation", mount.mount_propagation, _PROPAGATIONS)
            if mount.mount_propagation == "Bidirectional" and not container.security_context.privileged:
                yield forbidden(
                    f"{inner}.mountPropagation",
                    "Bidirectional mount propagation is available only to privileged containers",
                )
    paths = [(f"[{i}].mountPath", mount.mount_path) for i, mount in enumerate(container.volume_mounts)]
    yield from unique(f"{path}.volumeMounts", paths)


def resources(path: str, message: v1.ResourceRequirements) -> Problems:
    for part, amounts in (("limits", message.limits), ("requests", message.requests)):
        for name, amount in sorted(amounts.items()):
            inner = f"{path}.{part}[{name}]"
            if "/" in name:
                yield from names.qualified_name(inner, name)
            elif name not in _RESOURCES and not name.startswith("hugepages-"):
                yield invalid(inner, name, "must be a standard resource type or fully qualified")
            yield from not_negative(inner, amount)
    for name, request in sorted(message.requests.items()):
        if name in message.limits and _exceeds(request, message.limits[name]):
            limit = message.limits[name].string
            yield invalid(f"{path}.requests", request.string, f"must be less than or equal to {name} limit of {limit}")


def not_negative(path: str, amount: v1.Quantity) -> Problems:
    try:
        if quantity.parse(amount) < 0:
            yield invalid(path, amount.string, "must be greater than or equal to 0")
    except ValueError as error:
        yield invalid(path, amount.string, str(error))


def _exceeds(request: v1.Quantity, limit: v1.Quantity) -> bool:
    try:
        return quantity.parse(request) > quantity.parse(limit)
    except ValueError:
        # Said already.
        return False


def _probes(path: str, container: v1.Container, *, init: bool) -> Problems:
    for field, probe in fields_of(container, "livenessProbe", "readinessProbe", "startupProbe").items():
        inner = f"{path}.{field}"
        if init:
            yield forbidden(inner, "may not be set for init containers without restartPolicy=Always")
            continue
        yield from _handler(inner, probe, "exec", "httpGet", "tcpSocket", "grpc")
        yield from at_least(f"{inner}.initialDelaySeconds", probe.initial_delay_seconds, 0)
        yield from at_least(f"{inner}.timeoutSeconds", probe.timeout_seconds, 1)
        yield from at_least(f"{inner}.periodSeconds", probe.period_seconds, 1)
        yield from at_least(f"{inner}.successThreshold", probe.success_threshold, 1)
        yield from at_least(f"{inner}.failureThreshold", probe.failure_threshold, 1)
        if field != "readinessProbe" and probe.success_threshold > 1:
            yield invalid(f"{inner}.successThreshold", probe.success_threshold, "must be 1")
        if probe.HasField("termination_grace_period_seconds"):
            grace = f"{inner}.terminationGracePeriodSeconds"
            if field == "readinessProbe":
                yield invalid(grace, probe.termination_grace_period_seconds, "must not be set for readinessProbes")
            else:
                yield from at_least(grace, probe.termination_grace_period_seconds, 1)


def _handler(path: str, handler: v1.Probe | v1.LifecycleHandler, *allowed: str) -> Problems:
    """Exactly one of exec, httpGet, …, and that one right."""
    chosen = list(fields_of(handler, *allowed).items())
    if not chosen:
        yield required(path, f"must specify a handler type: {', '.join(allowed)}")
    for extra, _ in chosen[1:]:
        yield forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for name, action in chosen[:1]:
        yield from _action(f"{path}.{name}", action)


def _action(
    path: str, action: v1.ExecAction | v1.HTTPGetAction | v1.TCPSocketAction | v1.GRPCAction | v1.SleepAction
) -> Problems:
    match action:
        case v1.ExecAction():
            if not action.command:
                yield required(f"{path}.command")
        case v1.HTTPGetAction():
            yield from names.port(f"{path}.port", action.port)
            yield from one_of(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
            for i, header in enumerate(action.http_headers):
                yield from names.header_name(f"{path}.httpHeaders[{i}].name", header.name)
        case v1.TCPSocketAction():
            yield from names.port(f"{path}.port", action.port)
        case v1.GRPCAction():
            yield from names.port_number(f"{path}.port", action.port)
        case v1.SleepAction():
            yield from at_least(f"{path}.seconds", action.seconds, 0)


def _lifecycle(path: str, lifecycle: v1.Lifecycle, *, init: bool) -> Problems:
    if init:
        yield forbidden(path, "may not be set for init containers without restartPolicy=Always")
        return
    for field, handler in fields_of(lifecycle, "postStart", "preStop").items():
        yield from _handler(f"{path}.{field}", handler, "exec", "httpGet", "tcpSocket", "sleep")


def _security(path: str, context: v1.SecurityContext) -> Problems:
    yield from identity_and_profiles(path, context)
    if context.HasField("allow_privilege_escalation") and not context.allow_privilege_escalation:
        inner = f"{path}.allowPrivilegeEscalation"
        if context.privileged:
            yield invalid(inner, "false", "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        if {"SYS_ADMIN", "CAP_SYS_ADMIN"} & set(context.capabilities.add):
            yield invalid(
                inner, "false", "cannot set `allowPrivilegeEscalation` to false and `capabilities.add` CAP_SYS_ADMIN"
            )
    if context.proc_mount:
        yield from one_of(f"{path}.procMount", context.proc_mount, ("Default", "Unmasked"))


def identity_and_profiles(path: str, context: v1.SecurityContext | v1.PodSecurityContext) -> Problems:
    """What a pod's and a container's security context have in common."""
    for field, value in (("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)):
        yield from between(f"{path}.{field}", value, 0, LARGEST_ID)
    for field, profile in fields_of(context, "seccompProfile", "appArmorProfile").items():
        yield from _profile(f"{path}.{field}", profile)


def _profile(path: str, message: v1.SeccompProfile | v1.AppArmorProfile) -> Problems:
    yield from one_of(f"{path}.type", message.type, _PROFILES)
    if message.type == "Localhost" and not message.localhost_profile:
        yield required(f"{path}.localhostProfile", "must be set when the type is Localhost")
    if message.type != "Localhost" and message.localhost_profile:
        yield invalid(
            f"{path}.localhostProfile", message.localhost_profile, "can only be set when the type is Localhost"
        )
