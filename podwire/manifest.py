"""Manifests: text <-> trees <-> messages of the API. A manifest and a message are two forms of one thing.

`load` reads YAML or JSON into documents, `from_tree` and `to_tree` change between tree and message, `dump` writes YAML.
All that is wrong is reported at once, with paths, and with file and line where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from podwire import kinds, tree_codec, yaml_loader
from podwire.errors import FieldError, Invalid
from podwire.kinds import Kind
from podwire.yaml_loader import Part, where


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a manifest file, of a kind that we have."""

    kind: Kind
    tree: dict[str, Any]
    line: int = 1
    source: str = ""
    # The line of each path; a document from JSON has none.
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    def message(self) -> Any:
        """The object; Invalid names every wrong field and its line."""
        try:
            return from_tree(self.kind, self.tree, ignore_status=True)
        except Invalid as error:
            raise self.located(error) from None

    def located(self, error: Invalid) -> Invalid:
        """`error`, which may come from the server, with the line of each field added."""
        if not error.errors:
            return error
        listed = [FieldError(e.path, f"{e.message} ({self.where(e.path)})") for e in error.errors]
        return Invalid.fields(f"{where(self.source, self.line)}: {describe(self.kind, self.tree)}", listed)

    def where(self, path: str) -> str:
        """File and line of `path`, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return where(self.source, self.lines.get(path, self.line))


def load(text: str, source: str = "") -> list[Document]:
    """Every object in `text`: several documents, and the items of lists. `source` names the text in errors."""
    documents, wrong = read(text, source)
    if len(wrong) == 1:
        raise Invalid(str(wrong[0]), wrong)
    if wrong:
        raise Invalid.fields("the manifest", wrong)
    return documents


def read(text: str, source: str = "") -> tuple[list[Document], list[FieldError]]:
    """Every object in `text`, and what is wrong with those that are of no kind we have; text that is no YAML raises.

    For programs that check the former before they report the latter, so that a user sees all errors at once.
    """
    documents: list[Document] = []
    wrong: list[FieldError] = []
    for part in yaml_loader.load(text, source):
        for tree, path in _objects(part):
            line = part.lines.get(path, part.line)
            try:
                kind = _kind_of(tree)
            except ValueError as error:
                wrong.append(FieldError(where(source, line), str(error)))
                continue
            documents.append(Document(kind, tree, line, source, _lines_below(part.lines, path)))
    return documents, wrong


def from_tree(kind: Kind, tree: Mapping[str, Any], *, ignore_status: bool = False) -> Any:
    """The message that `tree` describes; Invalid has every field that is unknown or of the wrong type.

    With `ignore_status` status is not looked at: what a client writes never changes it, and other programs' exports
    have fields in it that we do not know.
    """
    message, wrong = read_tree(kind, tree, ignore_status=ignore_status)
    if wrong:
        raise Invalid.fields(describe(kind, tree), wrong)
    return message


def read_tree(kind: Kind, tree: Mapping[str, Any], *, ignore_status: bool) -> tuple[Any, list[FieldError]]:
    """Like `from_tree`, but gives what could be read and what could not, for those who have more to check."""
    message = kind.message()
    wrong: list[FieldError] = []
    for name, expected in (("apiVersion", kind.api_version), ("kind", kind.name)):
        if tree.get(name, expected) != expected:
            wrong.append(FieldError(name, f'must be "{expected}", not "{tree[name]}"'))
    skipped = {"apiVersion", "kind", "status"} if ignore_status else {"apiVersion", "kind"}
    wrong += tree_codec.fill(message, {name: value for name, value in tree.items() if name not in skipped})
    return message, wrong


def to_tree(kind: Kind, message: Message) -> dict[str, Any]:
    """`message` as a manifest: apiVersion, kind and metadata first, the rest in alphabetical order."""
    tree = tree_codec.to_tree(message)
    head = {"apiVersion": kind.api_version, "kind": kind.name}
    if "metadata" in tree:
        head["metadata"] = tree.pop("metadata")
    return {**head, **tree}


def dump(trees: Iterable[Mapping[str, Any]]) -> str:
    """YAML, one document a tree."""
    return yaml_loader.dump([dict(tree) for tree in trees])


def describe(kind: Kind, tree: Mapping[str, Any]) -> str:
    """`Pod "web"`, for errors about an object that may have no name yet."""
    metadata = tree.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f'{kind.name} "{name}"' if name else kind.name


def _objects(part: Part) -> Iterator[tuple[Any, str]]:
    """The objects in a document with the path of each: itself, or the items of a List (or PodList, …)."""
    tree = part.tree
    name = tree.get("kind") if isinstance(tree, dict) else None
    items = tree.get("items") if isinstance(name, str) and name.endswith("List") else None
    if not isinstance(items, list):
        yield tree, ""
        return
    for i, item in enumerate(items):
        yield item, f"items[{i}]"


def _lines_below(lines: Mapping[str, int], path: str) -> Mapping[str, int]:
    if not path:
        return lines
    return {name.removeprefix(f"{path}."): line for name, line in lines.items() if name.startswith(f"{path}.")}


def _kind_of(tree: Any) -> Kind:
    if not isinstance(tree, dict):
        raise ValueError("an object must be a mapping with apiVersion, kind and metadata")
    name, api_version = tree.get("kind"), tree.get("apiVersion")
    if not isinstance(name, str) or not name:
        raise ValueError("kind is missing: say what the object is, as in kind: Pod")
    kind = kinds.BY_NAME.get(name)
    if kind is None:
        known = sorted(kind.name for kind in kinds.KINDS if not kind.read_only)
        raise ValueError(f'unknown kind "{name}"{tree_codec.suggestion(name, known)} (known: {", ".join(known)})')
    if not isinstance(api_version, str) or not api_version:
        raise ValueError(f"apiVersion is missing: write apiVersion: {kind.api_version} for a {kind.name}")
    if api_version != kind.api_version:
        raise ValueError(f'unknown apiVersion "{api_version}" for a {kind.name}: write {kind.api_version}')
    return kind
