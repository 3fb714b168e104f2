"""A page for each proto file of the API, with its services, messages and fields and the comments at them; and an index.

protoc gives the comments with its descriptors, where they are asked for (`--include_source_info`), by the path of each
element within its file: the numbers of fields of descriptor.proto and the indexes in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

_FOLDER: Final = "podwire/v1"
_PACKAGE: Final = ".podwire.v1."
_MADE: Final = "<!-- Made by scripts/docs from protos/{}: change the comments there. -->"
_INTRODUCTION: Final = """\
# API reference

<!-- Made by scripts/docs from protos/. -->

The API is gRPC, package `podwire.v1`. A page here is a file of `protos/podwire/v1`; [errors](errors.md) are listed by
themselves, and [docs/clients](../clients/README.md) shows clients. Servers answer reflection and `grpc.health.v1`.

Messages carry the names of Kubernetes' manifests; tables name fields as manifests spell them, and a proto's own
spelling is the same with underscores. A field without a description means what Kubernetes' field of that name means.
*optional* fields tell absent from zero. `podctl apply` warns of fields that are stored without effect.

Every kind has a service of its own with the same methods: Create, Get, List, Watch, Update, Patch, Apply, Delete,
DeleteCollection, and UpdateStatus where there is a status. Their requests are in [meta.proto](meta.md).
"""
# What every kind's service does in the same way, said once.
_VERBS: Final = {
    "Create": "Stores a new object. Its name may be made from `generateName`.",
    "Get": "One object, as it is now, or as `resourceVersion` asks for.",
    "List": "The objects that the selectors name, as a consistent snapshot, in pages of at most 2 MiB.",
    "Watch": "Every change after a revision, in order, in batches of whole revisions.",
    "Update": "Replaces all of an object but its status.",
    "UpdateStatus": "Replaces the status of an object and nothing else.",
    "Patch": "Changes some fields, by a JSON merge patch or a JSON patch.",
    "Apply": "Makes the object what a manifest says, or creates it; each field has an owner.",
    "Delete": "Deletes an object, or marks it where something has to be done first (agents, finalizers, dependents).",
    "DeleteCollection": "Deletes the objects that the selectors name.",
}
# Field numbers of descriptor.proto, which paths are made of.
_SYNTAX: Final = 12
_MESSAGE: Final = 4
_SERVICE: Final = 6
_METHOD: Final = 2
_FIELD: Final = 2
_SCALARS: Final = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}

Comments = Mapping[tuple[int, ...], str]


def pages() -> dict[str, str]:
    """The text of each page by its name."""
    files = _described()
    where = {message.name: _page_name(file) for file in files for message in file.message_type}
    made = {_page_name(file): _Page(file, _comments(file), where).text() for file in files}
    return {"README.md": _index(files), **made}


def _described() -> list[FileDescriptorProto]:
    names = sorted(f"{_FOLDER}/{path.name}" for path in Path("protos", _FOLDER).glob("*.proto"))
    own = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.NamedTemporaryFile() as out:
        arguments = ["protoc", "-Iprotos", f"-I{own}", "--include_source_info", f"--descriptor_set_out={out.name}"]
        if protoc.main([*arguments, *names]) != 0:
            raise SystemExit("docs: protoc does not accept the protos")
        found = FileDescriptorSet.FromString(Path(out.name).read_bytes())
    # protoc puts what is imported first.
    return sorted(found.file, key=lambda file: file.name)


def _page_name(file: FileDescriptorProto) -> str:
    return f"{Path(file.name).stem}.md"


def _comments(file: FileDescriptorProto) -> Comments:
    """By path; a comment above an element, or else behind it."""
    found = {}
    for location in file.source_code_info.location:
        text = location.leading_comments or location.trailing_comments
        if text:
            found[tuple(location.path)] = text
    return found


def _index(files: list[FileDescriptorProto]) -> str:
    lines = [_INTRODUCTION, "| page | what | services |", "| --- | --- | --- |"]
    for file in files:
        services = ", ".join(f"`{service.name}`" for service in file.service)
        about = _line(_comments(file).get((_SYNTAX,), "")).partition(". ")[0].rstrip(".:")
        lines.append(f"| [{Path(file.name).name}]({_page_name(file)}) | {about} | {services} |")
    return "\n".join([*lines, ""])


@dataclass(frozen=True, slots=True)
class _Page:
    file: FileDescriptorProto
    comments: Comments
    # The page of each message.
    where: Mapping[str, str]

    def text(self) -> str:
        name = Path(self.file.name).name
        parts = [f"# {name}", _MADE.format(self.file.name), _prose(self.comments.get((_SYNTAX,), ""))]
        for number, service in enumerate(self.file.service):
            parts += self._service(service, (_SERVICE, number))
        for number, message in enumerate(self.file.message_type):
            parts += self._message(message, (_MESSAGE, number))
        return "\n\n".join(filter(None, parts)) + "\n"

    def _service(self, service: ServiceDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## Service {service.name}"
        yield _prose(self.comments.get(path, ""))
        rows = ["| method | request | answer | |", "| --- | --- | --- | --- |"]
        for number, method in enumerate(service.method):
            rows.append(self._method(method, self.comments.get((*path, _METHOD, number), "")))
        yield "\n".join(rows)

    def _method(self, method: MethodDescriptorProto, comment: str) -> str:
        request = "stream of " * method.client_streaming + self._type(method.input_type)
        answer = "stream of " * method.server_streaming + self._type(method.output_type)
        return f"| `{method.name}` | {request} | {answer} | {_line(comment) or _VERBS.get(method.name, '')} |"

    def _message(self, message: DescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {message.name}"
        yield _prose(self.comments.get(path, ""))
        if not message.field:
            yield "No fields."
            return
        rows = ["| field | type | |", "| --- | --- | --- |"]
        for number, field in enumerate(message.field):
            comment = _line(self.comments.get((*path, _FIELD, number), ""))
            if field.HasField("oneof_index") and not field.proto3_optional:
                others = [other.json_name for other in message.field if other.oneof_index == field.oneof_index]
                comment = f"{comment} One of {', '.join(f'`{other}`' for other in others)} is set.".strip()
            rows.append(f"| `{field.json_name}` | {self._field_type(message, field)} | {comment} |")
        yield "\n".join(rows)

    def _field_type(self, message: DescriptorProto, field: FieldDescriptorProto) -> str:
        entries = {f"{message.name}.{nested.name}": nested for nested in message.nested_type}
        entry = entries.get(field.type_name.removeprefix(_PACKAGE))
        if entry is not None and entry.options.map_entry:
            key, value = entry.field
            return f"map of {self._value_type(key)} to {self._value_type(value)}"
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return f"list of {self._value_type(field)}"
        return "optional " * field.proto3_optional + self._value_type(field)

    def _value_type(self, field: FieldDescriptorProto) -> str:
        return self._type(field.type_name) if field.type_name else _SCALARS[field.type]

    def _type(self, full_name: str) -> str:
        name = full_name.removeprefix(_PACKAGE)
        page = self.where.get(name)
        if page is None:
            # One of protobuf's own.
            return f"`{full_name.removeprefix('.')}`"
        return f"[{name}]({'' if page == _page_name(self.file) else page}#{name.lower()})"


def _prose(comment: str) -> str:
    return "\n".join(line.strip() for line in comment.strip().splitlines())


def _line(comment: str) -> str:
    """As a cell of a table takes it."""
    return " ".join(comment.split()).replace("|", "\\|")
