"""The page of errors, from their docstrings, their attributes and the statuses that they become on the wire."""

from __future__ import annotations

import inspect
import re
from typing import Final

from google.rpc import error_details_pb2

from podwire import errors

_INTRODUCTION: Final = """\
# Errors

<!-- Made by scripts/docs from podwire/errors.py: change the docstrings there. -->

Every error is a gRPC status with a `google.rpc.Status` in the trailing metadata (`grpc-status-details-bin`). Its
details begin with an `ErrorInfo`: `domain` is `podwire.io`, `reason` is one of those below, and `metadata` names the
object where there is one. The message is one sentence for a person. Decide by the reason, never by the message.

A status with no such details comes from gRPC itself or from something between client and server; its code alone counts,
and means what the first reason of that code means here.

*A retry helps* says whether the same request can succeed later as it is. *In doubt* says whether a write may have
happened although it failed: then read before you send it again. Podwire's own client follows both.
"""
# An error of each type with all that its details can carry.
_SAMPLES: Final[dict[type[errors.PodwireError], errors.PodwireError]] = {
    errors.Invalid: errors.Invalid("", [errors.FieldError("path", "message")]),
    errors.FieldConflict: errors.FieldConflict("", [errors.FieldOwner("path", "manager")]),
}
_DETAILS: Final = {
    error_details_pb2.ErrorInfo: "",
    error_details_pb2.BadRequest: "`BadRequest`: for each wrong field its path (`field`) and what to change",
    error_details_pb2.PreconditionFailure: "`PreconditionFailure`: what does not hold, as its violations",
    error_details_pb2.RetryInfo: "`RetryInfo`: how long to wait (`retry_delay`)",
}
_OWNERS: Final = "`PreconditionFailure`: for each field its path (`subject`) and its owner (`description`)"


def page() -> str:
    lines = [
        _INTRODUCTION,
        "| reason | status | a retry helps | in doubt | exception in `podwire.errors` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for error in errors.ERRORS:
        lines.append(
            f"| [{error.reason}](#{error.reason.lower()}) | {error.code.name} | {_yes(error.retryable)} "
            f"| {_yes(error.in_doubt)} | `{error.__name__}` |"
        )
    return "\n".join([*lines, "", *map(_section, errors.ERRORS)])


def _section(error: type[errors.PodwireError]) -> str:
    meaning, when, remedy = _parts(error)
    lines = [f"## {error.reason}", "", f"{meaning}", "", f"- **When:** {when}", f"- **What to do:** {remedy}"]
    lines += [f"- **Details:** {detail}" for detail in _details(error)]
    return "\n".join([*lines, ""])


def _parts(error: type[errors.PodwireError]) -> tuple[str, str, str]:
    """What the docstring says: the meaning, then paragraphs that begin with `When:` and `Do:`."""
    text = re.sub(r"\s+", " ", inspect.getdoc(error) or "")
    found = re.fullmatch(r"(.+?) When: (.+?) Do: (.+)", text)
    if found is None:
        raise SystemExit(f"docs: the docstring of {error.__name__} does not say `When:` and then `Do:`")
    meaning, when, remedy = found.groups()
    return meaning, when[0].upper() + when[1:], remedy[0].upper() + remedy[1:]


def _details(error: type[errors.PodwireError]) -> list[str]:
    """Of the details on the wire, those beyond the ErrorInfo that every error has."""
    told = []
    for packed in errors.to_status(_SAMPLES.get(error) or error("")).details:
        (kind,) = [kind for kind in _DETAILS if packed.Is(kind.DESCRIPTOR)]
        told.append(_OWNERS if error is errors.FieldConflict and _DETAILS[kind] else _DETAILS[kind])
    return [detail for detail in told if detail]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
