"""What of a stored status an agent's report replaces."""

from __future__ import annotations

from controlplane.sessions.statuses import merged_status
from podwire import v1


def condition(type_: str, status: str) -> v1.PodCondition:
    return v1.PodCondition(type=type_, status=status)


def test_conditions_of_others_are_kept_and_the_agents_own_are_replaced() -> None:
    stored = v1.PodStatus(
        phase="Pending",
        qos_class="Burstable",
        conditions=[condition("PodScheduled", "True"), condition("Ready", "False"), condition("my.gate/x", "True")],
    )
    sent = v1.PodStatus(phase="Running", conditions=[condition("Initialized", "True")])
    merged = merged_status(stored, sent)
    assert [(c.type, c.status) for c in merged.conditions] == [
        ("Initialized", "True"),
        ("PodScheduled", "True"),
        ("my.gate/x", "True"),
    ]
    assert (merged.phase, merged.qos_class) == ("Running", "Burstable")


def test_a_condition_that_the_agent_names_is_its_own() -> None:
    stored = v1.PodStatus(conditions=[condition("PodScheduled", "False")])
    sent = v1.PodStatus(conditions=[condition("PodScheduled", "True")])
    assert merged_status(stored, sent) == sent
