"""The documents that `-f` names: files, folders and stdin, all read and checked before anything is sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from podctl.failures import CommandError, Rejected, UsageError
from podwire import defaults, errors, manifest, validation
from podwire.kinds import Kind
from podwire.manifest import Document

_SUFFIXES: Final = (".yaml", ".yml", ".json")


def read(files: Sequence[str], *, recursive: bool) -> list[Document]:
    """Every document, in order of the files and within them. Raises Rejected with all that cannot be read."""
    documents, wrong = _read_all(files, recursive=recursive)
    if wrong:
        raise Rejected(wrong)
    return documents


def read_valid(files: Sequence[str], namespace: str, *, recursive: bool, explicit: bool) -> list[Document]:
    """Every document, all of them valid. Raises Rejected with everything that is wrong with any of them.

    The server has the same rules; here they are checked for all documents before the first is sent. `explicit` says
    that the user named `namespace`: then a document may not name another.
    """
    documents, wrong = _read_all(files, recursive=recursive)
    for document in documents:
        try:
            _check(document, namespace, explicit=explicit)
        except errors.Invalid as error:
            wrong.append(error)
    if wrong:
        raise Rejected(wrong)
    return documents


def namespace_of(document: Document, namespace: str) -> str:
    """The namespace that the object is in; `namespace` where it names none."""
    if not document.kind.namespaced:
        return ""
    metadata = document.tree.get("metadata")
    own = metadata.get("namespace") if isinstance(metadata, dict) else None
    return str(own or namespace)


def name_of(document: Document) -> str:
    metadata = document.tree.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""


def _read_all(files: Sequence[str], *, recursive: bool) -> tuple[list[Document], list[errors.Invalid]]:
    """The documents that could be read, and what is wrong with the others."""
    if not files:
        raise UsageError("say which files with -f FILE, -f FOLDER, or -f - for stdin")
    documents: list[Document] = []
    wrong: list[errors.Invalid] = []
    for text, source in _texts(files, recursive=recursive):
        try:
            found, unknown = manifest.read(text, source)
        except errors.Invalid as error:
            wrong.append(error)
            continue
        documents += found
        wrong += [errors.Invalid(str(field)) for field in unknown]
    if not documents and not wrong:
        raise CommandError(f"there are no objects in {', '.join('stdin' if file == '-' else file for file in files)}")
    return documents, wrong


def _check(document: Document, namespace: str, *, explicit: bool) -> None:
    message = document.message()
    metadata = message.metadata
    if document.kind.namespaced:
        if explicit and metadata.namespace not in ("", namespace):
            field = errors.FieldError("metadata.namespace", f'is "{metadata.namespace}", but -n says "{namespace}"')
            raise document.located(errors.Invalid.fields(_describe(document.kind, metadata.name), [field]))
        metadata.namespace = metadata.namespace or namespace
    defaults.apply_defaults(document.kind, message)
    if wrong := validation.validate(document.kind, message):
        raise document.located(errors.Invalid.fields(_describe(document.kind, metadata.name), wrong))


def _describe(kind: Kind, name: str) -> str:
    return f'{kind.name} "{name}"'


def _texts(files: Sequence[str], *, recursive: bool) -> Iterator[tuple[str, str]]:
    """The text of each file, and its name for errors."""
    for name in files:
        if name == "-":
            yield sys.stdin.read(), "stdin"
            continue
        path = Path(name)
        if not path.is_dir():
            yield _read(path), name
            continue
        found = sorted(file for file in path.glob("**/*" if recursive else "*") if file.suffix in _SUFFIXES)
        if not found:
            raise CommandError(f"there are no files that end in {', '.join(_SUFFIXES)} in the folder {name}")
        for file in found:
            yield _read(file), str(file)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"cannot read {path}: it is not UTF-8 text") from None
