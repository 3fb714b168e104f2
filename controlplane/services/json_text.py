"""JSON that clients send: whatever is wrong with it is Invalid, before anything works on the tree."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from podwire import errors


def parse(text: bytes, what: str) -> Any:
    """The tree; `what` says in errors what the text was to be."""
    try:
        tree = json.loads(text.decode(), parse_constant=_refuse_constant)
        # Halves of surrogate pairs are text to json, and to nobody after it.
        json.dumps(tree, ensure_ascii=False).encode()
    except RecursionError:
        raise errors.Invalid(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise errors.Invalid(f"{what} is not JSON in UTF-8: {_without_surrogates(str(error))}") from None
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _without_surrogates(text: str) -> str:
    return text.encode(errors="replace").decode()
