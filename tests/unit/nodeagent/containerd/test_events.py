"""Events, as containerd puts them into Any: with a bare name where Any wants a URL."""

from datetime import UTC, datetime

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from nodeagent.containerd.api import task_events_pb2
from nodeagent.containerd.events import ProcessExited, parse


def exit_event(process: str) -> Any:
    exited_at = Timestamp(seconds=1_800_000_000)
    message = task_events_pb2.TaskExit(container_id="c", id=process, pid=7, exit_status=3, exited_at=exited_at)
    return Any(type_url="containerd.events.TaskExit", value=message.SerializeToString())


def test_the_end_of_a_container_and_of_an_exec_are_told_apart() -> None:
    at = datetime.fromtimestamp(1_800_000_000, UTC)
    assert parse(exit_event("c")) == ProcessExited("c", "", 3, at)
    assert parse(exit_event("exec-1")) == ProcessExited("c", "exec-1", 3, at)


def test_events_that_nobody_listens_to_are_passed_over() -> None:
    assert parse(Any(type_url="containerd.events.TaskPaused", value=b"")) is None
