"""The part of kubectl's JSONPath that names values: `{.status.containerStatuses[0].ready}`, `[*]`, `['a.b']`, `\\.`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from podctl.failures import UsageError

_STEP: Final = re.compile(
    r"""\.?(?:\[(?P<index>-?\d+|\*)\]|\['(?P<quoted>[^']*)'\]|(?<=\.)(?P<name>(?:\\.|[^.\[\]\\])+))"""
)

Path = Sequence[str | int]


def parse(text: str) -> Path:
    """The steps of one path, with or without braces; "*" is every element. Raises UsageError."""
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    inner = inner.removeprefix("$")
    if inner and not inner.startswith((".", "[")):
        inner = "." + inner
    steps: list[str | int] = []
    position = 0
    while position < len(inner):
        match = _STEP.match(inner, position)
        if match is None:
            raise UsageError(f"jsonpath {text!r}: cannot read {inner[position:]!r}; write it as in {{.status.phase}}")
        if (index := match["index"]) is not None:
            steps.append(index if index == "*" else int(index))
        else:
            steps.append(match["quoted"] if match["quoted"] is not None else re.sub(r"\\(.)", r"\1", match["name"]))
        position = match.end()
    return steps


def values(tree: Any, path: Path) -> Iterator[Any]:
    """Everything in `tree` that `path` leads to; nothing where it leads nowhere."""
    if not path:
        yield tree
        return
    step, rest = path[0], path[1:]
    match tree, step:
        case (dict(), str()) if step in tree:
            yield from values(tree[step], rest)
        case (dict(), "*"):
            for value in tree.values():
                yield from values(value, rest)
        case (list(), "*"):
            for value in tree:
                yield from values(value, rest)
        case (list(), int()) if -len(tree) <= step < len(tree):
            yield from values(tree[step], rest)


def render(template: str, tree: Any) -> str:
    """`template` with every `{path}` replaced by its values; `{"\\n"}` is a string."""

    def replace(match: re.Match[str]) -> str:
        expression = match[1].strip()
        if expression.startswith('"'):
            return str(json.loads(expression))
        return " ".join(map(as_text, values(tree, parse(expression))))

    if "{" not in template:
        template = f"{{{template}}}"
    return re.sub(r"\{([^{}]*)\}", replace, template)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
