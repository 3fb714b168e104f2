"""`describe pod`."""

from __future__ import annotations

from podctl.describing.containers import describe_containers, describe_volumes
from podctl.describing.page import NONE, annotation_lines, controlled_by, field, head, label_lines, mapping
from podctl.durations import date, is_set
from podwire import v1


def describe(pod: v1.Pod) -> str:
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    text = head(metadata) + field("Priority", spec.priority)
    text += field("Service Account", spec.service_account_name or "default")
    host = f"{spec.node_name}/{status.host_ip}".rstrip("/")
    text += field("Node", host or NONE)
    if is_set(status.start_time):
        text += field("Start Time", date(status.start_time))
    text += label_lines(metadata) + annotation_lines(metadata)
    if is_set(metadata.deletion_timestamp):
        text += field("Status", f"Terminating (until {date(metadata.deletion_timestamp)})")
        text += field("Termination Grace Period", f"{metadata.deletion_grace_period_seconds}s")
    else:
        text += field("Status", status.phase)
    text += field("Reason", status.reason) if status.reason else ""
    text += field("Message", status.message) if status.message else ""
    text += field("IP", status.pod_ip)
    addresses = "".join(field("IP", address.ip, indent=1) for address in status.pod_ips)
    text += f"IPs:\n{addresses}" if addresses else field("IPs", NONE)
    text += controlled_by(metadata)
    text += describe_containers("Init Containers", spec.init_containers, status.init_container_statuses, live=True)
    text += describe_containers("Containers", spec.containers, status.container_statuses, live=True)
    if status.conditions:
        text += "Conditions:\n  Type\tStatus\n"
        text += "".join(f"  {condition.type}\t{condition.status}\n" for condition in status.conditions)
    text += describe_volumes(spec.volumes)
    text += field("QoS Class", status.qos_class or NONE)
    return text + mapping("Node-Selectors", spec.node_selector) + _tolerations(spec)


def _tolerations(spec: v1.PodSpec) -> str:
    lines = [_toleration(toleration) for toleration in spec.tolerations] or [NONE]
    return field("Tolerations", lines[0]) + "".join(f"\t{line}\n" for line in lines[1:])


def _toleration(toleration: v1.Toleration) -> str:
    """`node.kubernetes.io/not-ready:NoExecute op=Exists for 300s`."""
    text = toleration.key
    text += f"={toleration.value}" if toleration.value else ""
    text += f":{toleration.effect}" if toleration.effect else ""
    text += " op=Exists" if toleration.operator == "Exists" else ""
    return text + (f" for {toleration.toleration_seconds}s" if toleration.HasField("toleration_seconds") else "")
