"""Quantities in Kubernetes' notation."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podwire import quantity


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        ("0", "0", "0"),
        ("1", "1", "1"),
        ("100m", "100m", "0.1"),
        ("0.5", "500m", "0.5"),
        (".5", "500m", "0.5"),
        ("1.", "1", "1"),
        ("1000m", "1", "1"),
        ("1500m", "1500m", "1.5"),
        ("2000", "2k", "2000"),
        ("1024Mi", "1Gi", "1073741824"),
        ("1.5Gi", "1536Mi", "1610612736"),
        ("0.5Ki", "512", "512"),
        ("128974848", "128974848", "128974848"),
        ("129e6", "129e6", "129000000"),
        ("1e3", "1e3", "1000"),
        ("52.960Gi", "56865367k", "56865366999.04"),
        ("8E", "8E", "8000000000000000000"),
        ("-1", "-1", "-1"),
        ("1n", "1n", "0.000000001"),
        ("0.1n", "1n", "0.000000001"),
        ("100u", "100u", "0.0001"),
    ],
)
def test_a_quantity_has_a_value_and_one_canonical_form(text: str, canonical: str, value: str) -> None:
    assert quantity.parse(text) == Decimal(value)
    assert quantity.canonical(text) == canonical


def test_a_quantity_has_63_bits() -> None:
    with pytest.raises(ValueError, match="larger than a quantity can be"):
        quantity.parse("12E")


@pytest.mark.parametrize("text", ["", "1z", "1 Gi", "Gi", "1.2.3", "--1", "1mm", "1KI", "0x10", "inf", "1e", "٣"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity.parse(text)


@given(
    st.builds(
        "{}{}".format,
        st.integers(0, 10**6) | st.decimals(0, 1000, places=3),
        st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e3", "E-3"]),
    )
)
def test_the_canonical_form_means_the_same_and_is_its_own_canonical_form(text: str) -> None:
    canonical = quantity.canonical(text)
    assert abs(quantity.parse(canonical) - quantity.parse(text)) < 1
    assert quantity.canonical(canonical) == canonical


def test_cpu_is_counted_in_thousandths_and_memory_in_bytes_rounded_up() -> None:
    assert quantity.milli("0.5") == 500
    assert quantity.milli("1n") == 1
    assert quantity.to_bytes("1Ki") == 1024
    assert quantity.to_bytes("1500m") == 2
