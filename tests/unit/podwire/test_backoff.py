"""How long to wait between attempts."""

from __future__ import annotations

from podwire.backoff import Backoff


def test_delays_double_up_to_the_cap_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(1.0, 5.0, uniform=lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_up_to_half_of_a_delay_is_taken_away_at_random() -> None:
    assert Backoff(1.0, 5.0, uniform=lambda: 0.0).next() == 0.5


def test_what_a_server_asks_for_is_waited_at_least_and_those_who_heard_it_do_not_come_back_together() -> None:
    assert Backoff(1.0, 5.0, uniform=lambda: 0.0).next(at_least=10.0) == 10.0
    assert Backoff(1.0, 5.0, uniform=lambda: 1.0).next(at_least=10.0) == 15.0
    many = sorted(Backoff(0.05, 1.0).next(at_least=4.0) for _ in range(200))
    assert 4.0 <= many[0] < 4.5 < 5.5 < many[-1] <= 6.0
