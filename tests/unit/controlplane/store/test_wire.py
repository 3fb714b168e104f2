"""Objects put together as bytes are the objects that protobuf would have made."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.store import entries, keys, wire
from podwire import kinds, v1


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_varints_are_protobufs(value: int) -> None:
    meta = v1.ListMeta(remaining_item_count=value)
    assert meta.SerializeToString() == b"\x18" + wire.varint(value)


@given(
    st.text(min_size=1, max_size=300),
    st.dictionaries(st.text(), st.text(), max_size=5),
    st.integers(min_value=1, max_value=2**63 - 1),
)
def test_a_stamped_object_differs_by_its_resource_version_alone(
    name: str, labels: dict[str, str], revision: int
) -> None:
    pod = v1.Pod(metadata=v1.ObjectMeta(name=name, resource_version="1"), spec=v1.PodSpec(node_name="n"))
    pod.metadata.labels.update(labels)
    sent = v1.Pod.FromString(wire.stamp(wire.encode(pod), revision))
    assert sent.metadata.resource_version == str(revision)
    sent.metadata.resource_version = ""
    assert sent == pod
    assert wire.encode(sent) == wire.encode(pod)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_the_layout_that_bytes_are_put_together_by_is_every_kinds(kind: kinds.Kind) -> None:
    obj: Any = kind.message()
    obj.metadata.name = "a"
    entry = entries.make(kind, "a", wire.encode(obj), 7)
    listed: Any = kind.list_message.FromString(wire.list_metadata(v1.ListMeta(resource_version="9")) + entry.item)
    assert listed.metadata.resource_version == "9"
    assert listed.items[0].metadata.name == "a"
    event = wire.event_header(wire.MODIFIED, len(entry.item)) + entry.item
    response: Any = kind.watch_response.FromString(event + wire.bookmark(8) + wire.epoch_field("e"))
    assert [e.type for e in response.events] == ["MODIFIED", "BOOKMARK"]
    assert [e.object.metadata.resource_version for e in response.events] == ["7", "8"]
    assert response.epoch == "e"
    assert entry.message().metadata.resource_version == "7"


def test_keys_are_parsed_to_what_they_were_made_of() -> None:
    assert keys.parse(keys.object_key(kinds.POD, "default/web")) == (kinds.POD, "default/web")
    assert keys.parse(keys.object_key(kinds.NODE, "n1")) == (kinds.NODE, "n1")
    assert keys.parse(keys.EPOCH) is None
    assert keys.parse(keys.ALLOCATIONS + b"addresses/10.96.0.5") is None
    assert keys.parse(b"/podwire/pods/") is None
