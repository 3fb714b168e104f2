"""Pods.Bind: a pod that has no node gets one, once."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.http2 import Context
from controlplane.services import lifecycle
from controlplane.services.callers import fence_of
from controlplane.services.verbs import unary
from controlplane.services.writing import Demands, Writer, now
from podwire import errors, kinds, v1
from podwire.keys import join_key, key_of
from podwire.validation.names import dns_subdomain

SCHEDULED: Final = "PodScheduled"


class Binding:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def handler(self) -> grpc.GenericRpcHandler:
        bind = unary(f"{kinds.POD.service}/Bind", v1.BindRequest, self._bind)
        return grpc.method_handlers_generic_handler(kinds.POD.service, {"Bind": bind})

    async def _bind(self, request: v1.BindRequest, context: Context) -> bytes:
        if not request.name or not request.node_name:
            raise errors.Invalid("a bind needs the name of a pod and that of a node")
        if wrong := list(dns_subdomain("nodeName", request.node_name)):
            raise errors.Invalid.fields("the bind", wrong)
        key = join_key(request.namespace or lifecycle.DEFAULT_NAMESPACE, request.name)
        demands = Demands(fence_of(context.invocation_metadata()))
        written = await self._writer.change(kinds.POD, key, lambda pod: bound(pod, request, now()), demands)
        return written.sent


def bound(pod: v1.Pod, request: v1.BindRequest, at: Timestamp) -> v1.Pod:
    """`pod` on its node; as it is where it is there already."""
    lifecycle.check_preconditions(kinds.POD, pod, uid=request.uid, resource_version="")
    what = lifecycle.describe(kinds.POD, key_of(pod))
    if pod.spec.node_name == request.node_name:
        return pod
    if pod.spec.node_name:
        raise errors.PreconditionFailed(f"{what} is on the node {pod.spec.node_name} already")
    if pod.metadata.HasField("deletion_timestamp"):
        raise errors.PreconditionFailed(f"{what} is being deleted")
    pod.spec.node_name = request.node_name
    kept = [condition for condition in pod.status.conditions if condition.type != SCHEDULED]
    del pod.status.conditions[:]
    scheduled = v1.PodCondition(type=SCHEDULED, status="True", last_transition_time=at)
    pod.status.conditions.extend([*kept, scheduled])
    return pod
