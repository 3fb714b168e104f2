"""Quantities: amounts of cpu, memory and other resources as Kubernetes writes them ("100m", "1.5Gi", "2e3").

Format and canonical form follow k8s.io/apimachinery/pkg/api/resource.Quantity: at most nano precision, rounded up, and
the largest suffix that leaves a whole number.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from podwire import v1

Amount = str | v1.Quantity

_BINARY: Final[dict[str, Decimal]] = {
    suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)
}
_DECIMAL: Final[dict[str, int]] = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_FORMAT: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?|[eE][+-]?[0-9]{1,3})")
_NANO: Final = Decimal("1e-9")
_LARGEST: Final = Decimal(2**63 - 1)


def parse(amount: Amount) -> Decimal:
    """The value of `amount`; ValueError says what is wrong with it."""
    return _parse(amount)[0]


def canonical(amount: Amount) -> str:
    """The one way to write `amount`: 0.5 as "500m", "1024Mi" as "1Gi", in the suffixes that it was written in."""
    value, suffix = _parse(amount)
    if suffix in _BINARY and abs(value) >= 1024:
        value = value.to_integral_value(ROUND_CEILING)
        for name in reversed(_BINARY):
            if value % _BINARY[name] == 0:
                return f"{value / _BINARY[name]:f}{name}"
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        exponent = max((e for e in range(-9, 19, 3) if value.scaleb(-e) % 1 == 0), default=-9) if value else 0
        return f"{value.scaleb(-exponent):.0f}" + (f"e{exponent}" if exponent else "")
    for name, exponent in reversed(_DECIMAL.items()):
        scaled = value.scaleb(-exponent)
        if value and scaled % 1 == 0:
            return f"{scaled:.0f}{name}"
    return "0"


def milli(amount: Amount) -> int:
    """Thousandths, rounded up: "0.5" of a cpu is 500."""
    return int((parse(amount) * 1000).to_integral_value(ROUND_CEILING))


def to_bytes(amount: Amount) -> int:
    """Whole units, rounded up: "1Ki" is 1024."""
    return int(parse(amount).to_integral_value(ROUND_CEILING))


def _parse(amount: Amount) -> tuple[Decimal, str]:
    text = amount if isinstance(amount, str) else amount.string
    match = _FORMAT.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a quantity: write a number with a suffix as in 100m, 1.5, 512Mi or 2G')
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _BINARY:
        value = number * _BINARY[suffix]
    elif suffix in _DECIMAL:
        value = number.scaleb(_DECIMAL[suffix])
    else:
        value = number.scaleb(int(suffix[1:]))
    if abs(value) > _LARGEST:
        raise ValueError(f'"{text}" is larger than a quantity can be, {_LARGEST}')
    return value.quantize(_NANO, ROUND_CEILING), suffix
