"""Which processes belong to an exec."""

from nodeagent.process_trees import Kinship, parse_stat, tree_of


def test_a_name_with_spaces_and_brackets_does_not_confuse() -> None:
    assert parse_stat("7 (a) b (c) S 3 7 5 0 -1") == Kinship(parent=3, session=5)


def test_descendants_and_the_whole_session_belong_to_an_exec() -> None:
    processes = {
        1: Kinship(0, 1),
        50: Kinship(0, 50),
        51: Kinship(50, 50),
        # Its parent has ended, its session has not.
        52: Kinship(1, 50),
        # It has begun a session of its own.
        53: Kinship(51, 53),
        54: Kinship(53, 53),
        60: Kinship(1, 1),
    }
    assert tree_of(50, processes) == {50, 51, 52, 53, 54}


def test_what_an_exec_left_behind_is_found_after_its_end() -> None:
    assert tree_of(50, {1: Kinship(0, 1), 52: Kinship(1, 50)}) == {52}
