"""Columns, remembered widths, and elastic tabs."""

from podctl.tables import Table, align


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_follows_the_last() -> None:
    text = Table(["NAME", "AGE"]).render([["web", "5s"], ["clock-1", "10m"]])
    assert text == "NAME      AGE\nweb       5s\nclock-1   10m\n"


def test_later_rows_keep_the_columns_and_the_headers_come_once() -> None:
    table = Table(["NAME", "AGE"])
    table.render([["long-name", "5s"]])
    assert table.render([["x", "6s"]]) == "x           6s\n"


def test_without_headers_only_rows_are_shown() -> None:
    assert Table().render([["web", "5s"]]) == "web   5s\n"


def test_no_rows_are_no_table() -> None:
    assert Table(["NAME"]).render([]) == ""


def test_tabs_align_within_consecutive_lines_only() -> None:
    assert align("a:\t1\nlong name:\t2\n\nb:\t3\n") == "a:          1\nlong name:  2\n\nb:  3\n"


def test_a_deeper_column_is_aligned_among_the_lines_that_have_it() -> None:
    text = "Port:\thttp\t80\nType:\tX\nNodePort:\thttps\t30001\n"
    assert align(text) == "Port:      http  80\nType:      X\nNodePort:  https  30001\n"
