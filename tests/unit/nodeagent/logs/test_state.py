"""What a request must hold, and what is kept of it."""

from pathlib import Path
from typing import Any

import pytest

from nodeagent.logs.pump import parse_size
from nodeagent.logs.state import Attachment, BadRequest, StateDir

GOOD = {"id": "uid-1a2b-0", "stdout": "/run/o", "stderr": "/run/e", "log": "/var/log/c.log"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": ""}, "id must be"),
        ({"id": "../escape"}, "id must be"),
        ({"id": "x" * 129}, "id must be"),
        ({"stdout": ""}, "stdout is missing"),
        ({"log": ""}, "log is missing"),
        ({"stdout": "relative"}, "stdout must be an absolute path"),
        ({"stderr": "relative"}, "stderr must be an absolute path"),
        ({"log": 3}, "log must be text"),
    ],
)
def test_a_bad_request_says_what_is_wrong(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        Attachment.parse(GOOD | change)


def test_a_terminal_has_no_stderr() -> None:
    assert Attachment.parse(GOOD | {"stderr": ""}).stderr == ""


def test_what_is_saved_is_loaded_and_what_is_forgotten_is_not(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    first, second = Attachment.parse(GOOD), Attachment.parse(GOOD | {"id": "other"})
    state.save(first)
    state.save(second)
    state.forget("other")
    state.forget("never-there")
    assert list(StateDir(tmp_path / "state").load()) == [first]


def test_a_save_that_was_killed_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / ".web.new").write_text('{"id": "w')
    assert list(StateDir(tmp_path).load()) == []


def test_sizes() -> None:
    assert [parse_size(text) for text in ("1024", "2Ki", "10Mi", "1Gi")] == [1024, 2048, 10 << 20, 1 << 30]
