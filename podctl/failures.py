"""Errors as a person reads them: one clear line, then one line for each wrong field; and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podwire import errors

# kubectl's three.
_WAYS_OUT: Final = """\
Other managers own these fields, with other values. There are three ways out:
* To manage all of these fields from now on, apply again with --force-conflicts.
* To leave them to their managers, remove them from the manifest.
* To own them together, give them in the manifest the values that they have. You become
  their manager once the others stop managing them."""


class CommandError(Exception):
    """The command cannot be carried out; its text follows `error: `."""


class Rejected(CommandError):
    """Several inputs are wrong, each with an error of its own."""

    def __init__(self, wrong: Sequence[errors.Invalid]) -> None:
        super().__init__(f"{len(wrong)} inputs are invalid")
        self.wrong = list(wrong)


class UsageError(Exception):
    """The command line is wrong; the process ends with 2."""


def explain(error: Exception) -> str:
    """`Error from server (NotFound): pods "x" not found`, as kubectl words it. Ends without a newline."""
    match error:
        case Rejected():
            return "\n".join(map(explain, error.wrong))
        case CommandError() | UsageError():
            return f"error: {error}"
        case errors.Invalid() if error.errors:
            return _invalid(error)
        case errors.FieldConflict() if error.owners:
            return _conflict(error)
        case errors.Invalid() | errors.Unavailable() | errors.Timeout() | errors.NodeUnreachable():
            return f"error: {error.message}"
        case errors.PodwireError():
            return f"Error from server ({type(error).__name__}): {error.message}"
    raise error


def _conflict(error: errors.FieldConflict) -> str:
    owned: dict[str, list[str]] = {}
    for owner in error.owners:
        owned.setdefault(owner.manager, []).append(owner.path)
    # Of very many fields the last ones are only counted, and have no owner here.
    rest = owned.pop("", [])
    count = "many conflicts" if rest else f"{len(error.owners)} conflict{'s' if len(error.owners) > 1 else ''}"
    listed = "\n".join(
        "\n".join([f'conflict with "{manager}":', *(f"  {path}" for path in paths)]) for manager, paths in owned.items()
    )
    if rest:
        listed += f"\n{rest[0]}"
    name = error.metadata.get("key", "").rpartition("/")[2]
    what = f'{error.metadata.get("kind", "The object")} "{name}"' if name else "The object"
    return f"error: {what} was not applied, with {count}:\n{listed}\n{_WAYS_OUT}"


def _invalid(error: errors.Invalid) -> str:
    """The message lists the fields in one line; here each has a line of its own."""
    listed = "; ".join(map(str, error.errors))
    if error.message in (listed, str(error.errors[0])):
        return f"error: {error.message}" if len(error.errors) == 1 else "\n".join(f"error: {e}" for e in error.errors)
    subject = error.message.partition(str(error.errors[0]))[0].rstrip(": ")
    if len(error.errors) == 1:
        return f"error: {subject}: {error.errors[0]}"
    return "\n".join([f"error: {subject}:", *(f"  {each}" for each in error.errors)])
