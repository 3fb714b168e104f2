"""Ages as kubectl writes them, and durations as its users write them."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from podctl.durations import age, human_duration, parse_duration
from podctl.failures import UsageError

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        # The cases of apimachinery's own test.
        (0.9, "0s"),
        (70, "70s"),
        (70 * MINUTE, "70m"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 3, "2m3s"),
        (9 * MINUTE + 59, "9m59s"),
        (10 * MINUTE + 30, "10m"),
        (47 * HOUR, "47h"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 20 * MINUTE, "3h20m"),
        (7 * HOUR + 59 * MINUTE, "7h59m"),
        (49 * HOUR, "2d1h"),
        (48 * HOUR, "2d"),
        (8 * DAY + HOUR, "8d"),
        (367 * DAY, "367d"),
        (2 * YEAR + 25 * DAY, "2y25d"),
        (2 * YEAR, "2y"),
        (10 * YEAR, "10y"),
        (-1.9, "0s"),
        (-5, "<invalid>"),
    ],
)
def test_durations_get_rougher_as_they_get_longer(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_an_age_that_is_not_known_says_so() -> None:
    assert age(Timestamp(), 1000) == "<unknown>"
    assert age(Timestamp(seconds=990), 1000) == "10s"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30s", 30), ("1m30s", 90), ("2h", 7200), ("500ms", 0.5), ("-1s", -1), ("1.5m", 90)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1m 2s", "-"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)
