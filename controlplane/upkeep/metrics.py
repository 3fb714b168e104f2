"""What upkeep has seen and done, as Prometheus' metrics. Sizes and alarms are the leader's: others have none."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.store.api import etcd_pb2 as pb
from controlplane.upkeep.upkeep import Upkeep


class UpkeepMetrics(Collector):
    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def collect(self) -> Iterator[Metric]:
        seen = self._upkeep.observed
        yield CounterMetricFamily("podwire_etcd_compactions", "Compactions made by this process", seen.compactions)
        yield GaugeMetricFamily(
            "podwire_etcd_compacted_revision", "Revision of the last of them", seen.compacted_revision
        )
        yield CounterMetricFamily("podwire_etcd_failed_looks", "Looks that etcd did not answer", seen.failed_looks)
        defragmented = CounterMetricFamily(
            "podwire_etcd_defragmentations", "Defragmentations made by this process", labels=["member"]
        )
        for member, times in seen.defragmentations.items():
            defragmented.add_metric([f"{member:x}"], times)
        yield defragmented
        size = GaugeMetricFamily("podwire_etcd_db_bytes", "Size of a member's file", labels=["member", "name"])
        used = GaugeMetricFamily("podwire_etcd_db_in_use_bytes", "How much of it is used", labels=["member", "name"])
        up = GaugeMetricFamily("podwire_etcd_up", "1 where a member answers", labels=["member", "name"])
        for state in seen.members:
            labels = [f"{state.id:x}", state.name]
            up.add_metric(labels, float(state.status is not None))
            if state.status is not None:
                size.add_metric(labels, state.status.dbSize)
                used.add_metric(labels, state.status.dbSizeInUse)
        yield size
        yield used
        yield up
        alarms = GaugeMetricFamily("podwire_etcd_alarm", "1 for each alarm that stands", labels=["member", "alarm"])
        for alarm in seen.alarms:
            alarms.add_metric([f"{alarm.memberID:x}", pb.AlarmType.Name(alarm.alarm)], 1)
        yield alarms
