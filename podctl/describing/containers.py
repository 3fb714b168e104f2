"""Containers, probes, environment and volumes, of pods and of the templates of workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podctl.describing.page import NONE, field
from podctl.durations import date, is_set
from podwire import v1


def describe_containers(
    heading: str, containers: Sequence[v1.Container], statuses: Sequence[v1.ContainerStatus], *, live: bool
) -> str:
    """`live` is a pod's containers, with their states; otherwise those of a template."""
    if not containers:
        return ""
    by_name = {status.name: status for status in statuses}
    text = f"{heading}:\n"
    for container in containers:
        text += f"  {container.name}:\n"
        status = by_name.get(container.name, v1.ContainerStatus())
        text += _container(container, status, live=live)
    return text


def _container(container: v1.Container, status: v1.ContainerStatus, *, live: bool) -> str:
    def line(name: str, value: object) -> str:
        return field(name, value, indent=2)

    text = ""
    if live:
        text += line("Container ID", status.container_id)
    text += line("Image", container.image)
    if live:
        text += line("Image ID", status.image_id)
    text += _ports(container.ports)
    text += _words("Command", container.command) + _words("Args", container.args)
    if live:
        text += _state("State", status.state)
        if _set_field(status.last_state):
            text += _state("Last State", status.last_state)
        text += line("Ready", status.ready) + line("Restart Count", status.restart_count)
    text += _amounts("Limits", container.resources.limits) + _amounts("Requests", container.resources.requests)
    text += line("Liveness", describe_probe(container.liveness_probe)) if container.HasField("liveness_probe") else ""
    text += (
        line("Readiness", describe_probe(container.readiness_probe)) if container.HasField("readiness_probe") else ""
    )
    text += line("Startup", describe_probe(container.startup_probe)) if container.HasField("startup_probe") else ""
    text += _environment(container)
    return text + _mounts(container.volume_mounts)


def _ports(ports: Sequence[v1.ContainerPort]) -> str:
    if not ports:
        return field("Port", NONE, indent=2) + field("Host Port", NONE, indent=2)
    ending = "s" if len(ports) > 1 else ""
    inside = ", ".join(f"{port.container_port}/{port.protocol or 'TCP'}" for port in ports)
    outside = ", ".join(f"{port.host_port}/{port.protocol or 'TCP'}" for port in ports)
    return field(f"Port{ending}", inside, indent=2) + field(f"Host Port{ending}", outside, indent=2)


def _words(name: str, words: Sequence[str]) -> str:
    if not words:
        return ""
    lines = [line for word in words for line in word.split("\n")]
    return f"    {name}:\n" + "".join(f"      {line}\n" for line in lines)


def _state(name: str, state: v1.ContainerState) -> str:
    def line(name: str, value: object) -> str:
        return field(name, value, indent=3)

    if state.HasField("running"):
        return field(name, "Running", indent=2) + line("Started", date(state.running.started_at))
    if state.HasField("terminated"):
        ended = state.terminated
        text = field(name, "Terminated", indent=2)
        text += line("Reason", ended.reason) if ended.reason else ""
        text += line("Message", ended.message.strip()) if ended.message else ""
        text += line("Exit Code", ended.exit_code)
        text += line("Signal", ended.signal) if ended.signal else ""
        return text + line("Started", date(ended.started_at)) + line("Finished", date(ended.finished_at))
    text = field(name, "Waiting", indent=2)
    waiting = state.waiting
    text += line("Reason", waiting.reason) if waiting.reason else ""
    text += line("Message", waiting.message.strip()) if waiting.message else ""
    return text + (line("Next Start", date(waiting.next_start_time)) if is_set(waiting.next_start_time) else "")


def _amounts(name: str, amounts: Mapping[str, v1.Quantity]) -> str:
    if not amounts:
        return ""
    return f"    {name}:\n" + "".join(field(key, amounts[key].string, indent=3) for key in sorted(amounts))


def describe_probe(probe: v1.Probe) -> str:
    """`http-get http://:80/ delay=5s timeout=1s period=10s #success=1 #failure=3`."""
    numbers = (
        f"delay={probe.initial_delay_seconds}s timeout={probe.timeout_seconds}s period={probe.period_seconds}s "
        f"#success={probe.success_threshold} #failure={probe.failure_threshold}"
    )
    if probe.HasField("exec"):
        return f"exec [{' '.join(probe.exec.command)}] {numbers}"
    if probe.HasField("http_get"):
        get = probe.http_get
        path = "/" + get.path.removeprefix("/")
        return f"http-get {(get.scheme or 'HTTP').lower()}://{get.host}:{port_text(get.port)}{path} {numbers}"
    if probe.HasField("tcp_socket"):
        return f"tcp-socket {probe.tcp_socket.host}:{port_text(probe.tcp_socket.port)} {numbers}"
    if probe.HasField("grpc"):
        return f"grpc <pod>:{probe.grpc.port} {probe.grpc.service} {numbers}"
    return f"unknown {numbers}"


def port_text(port: v1.IntOrString) -> str:
    which = port.WhichOneof("value")
    return str(getattr(port, which)) if which else ""


def _environment(container: v1.Container) -> str:
    text = ""
    if container.env_from:
        text += "    Environment Variables from:\n"
        for source in container.env_from:
            kind, reference = (
                ("ConfigMap", source.config_map_ref)
                if source.HasField("config_map_ref")
                else ("Secret", source.secret_ref)
            )
            prefix = f" with prefix '{source.prefix}'" if source.prefix else ""
            text += f"      {reference.name}\t{kind}{prefix}\tOptional: {str(reference.optional).lower()}\n"
    if not container.env:
        return text + field("Environment", NONE, indent=2)
    text += "    Environment:\n"
    return text + "".join(field(variable.name, _value(variable), indent=3) for variable in container.env)


def _value(variable: v1.EnvVar) -> str:
    source = variable.value_from
    match _set_field(source):
        case "field_ref":
            return f"({source.field_ref.api_version or 'v1'}:{source.field_ref.field_path})"
        case "resource_field_ref":
            return f"{source.resource_field_ref.container_name} ({source.resource_field_ref.resource})".strip()
        case "config_map_key_ref":
            return _key_reference(source.config_map_key_ref, "config map")
        case "secret_key_ref":
            return _key_reference(source.secret_key_ref, "secret")
    return variable.value.replace("\n", "\n\t")


def _set_field(message: Any, *but: str) -> str:
    """The first field of `message` that is set, for messages in which at most one may be; empty: none is."""
    return next((descriptor.name for descriptor, _ in message.ListFields() if descriptor.name not in but), "")


def _key_reference(reference: Any, kind: str) -> str:
    optional = str(bool(reference.optional)).lower()
    return f"<set to the key '{reference.key}' in {kind} '{reference.name}'>\tOptional: {optional}"


def _mounts(mounts: Sequence[v1.VolumeMount]) -> str:
    if not mounts:
        return field("Mounts", NONE, indent=2)
    lines = []
    for mount in sorted(mounts, key=lambda mount: mount.mount_path):
        flags = ["ro" if mount.read_only else "rw"]
        if mount.sub_path:
            flags.append(f'path="{mount.sub_path}"')
        lines.append(f"      {mount.mount_path} from {mount.name} ({','.join(flags)})\n")
    return "    Mounts:\n" + "".join(lines)


def describe_volumes(volumes: Sequence[v1.Volume]) -> str:
    if not volumes:
        return field("Volumes", NONE)
    text = "Volumes:\n"
    for volume in volumes:
        text += f"  {volume.name}:\n"
        text += "".join(field(name, value, indent=2) for name, value in _volume_fields(volume))
    return text


def _volume_fields(volume: v1.Volume) -> list[tuple[str, object]]:
    match _set_field(volume, "name"):
        case "host_path":
            return [
                ("Type", "HostPath (bare host directory volume)"),
                ("Path", volume.host_path.path),
                ("HostPathType", volume.host_path.type),
            ]
        case "empty_dir":
            return [
                ("Type", "EmptyDir (a temporary directory that shares a pod's lifetime)"),
                ("Medium", volume.empty_dir.medium),
                ("SizeLimit", volume.empty_dir.size_limit.string or "<unset>"),
            ]
        case "secret":
            return [
                ("Type", "Secret (a volume populated by a Secret)"),
                ("SecretName", volume.secret.secret_name),
                ("Optional", str(volume.secret.optional).lower()),
            ]
        case "config_map":
            return [
                ("Type", "ConfigMap (a volume populated by a ConfigMap)"),
                ("Name", volume.config_map.name),
                ("Optional", str(volume.config_map.optional).lower()),
            ]
        case "downward_api":
            return [("Type", "DownwardAPI (a volume populated by information about the pod)")]
        case "projected":
            return [("Type", "Projected (a volume that contains injected data from multiple sources)")]
        case "persistent_volume_claim":
            return [
                ("Type", "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)"),
                ("ClaimName", volume.persistent_volume_claim.claim_name),
                ("ReadOnly", str(volume.persistent_volume_claim.read_only).lower()),
            ]
    return [("Type", "<unknown>")]
