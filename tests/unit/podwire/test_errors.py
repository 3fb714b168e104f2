"""Errors keep their type, fields and numbers over the wire."""

from base64 import b64encode
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, status_pb2

from podwire import errors


@pytest.mark.parametrize("kind", errors.ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_what_it_was(kind: type[errors.PodwireError]) -> None:
    error = kind("what happened", metadata={"name": "web"})
    back = errors.from_status(errors.to_status(error))
    assert type(back) is kind
    assert (back.message, back.metadata) == ("what happened", {"name": "web"})


def test_field_errors_and_delays_come_along() -> None:
    wrong = [errors.FieldError("spec.replicas", "must not be negative"), errors.FieldError("metadata.name", "x")]
    invalid = errors.from_status(errors.to_status(errors.Invalid.fields('Pod "a"', wrong)))
    assert isinstance(invalid, errors.Invalid)
    assert list(invalid.errors) == wrong
    assert str(invalid) == 'Pod "a" is invalid: spec.replicas: must not be negative; metadata.name: x'
    overloaded = errors.from_status(errors.to_status(errors.Overloaded("busy", retry_after=2.5)))
    assert isinstance(overloaded, errors.Overloaded)
    assert overloaded.retry_after == 2.5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Timeout),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unsupported),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
    ],
)
def test_a_status_without_details_is_the_nearest_error(code: grpc.StatusCode, kind: type[errors.PodwireError]) -> None:
    assert type(errors.from_status(status_pb2.Status(code=code.value[0], message="x"))) is kind


def test_another_domains_reason_does_not_count() -> None:
    status = errors.to_status(errors.Fenced("x"))
    status.details[0].value = status.details[0].value.replace(b"podwire.io", b"example.io")
    assert status.code == code_pb2.FAILED_PRECONDITION
    assert type(errors.from_status(status)) is errors.PreconditionFailed


@pytest.mark.parametrize(
    "error",
    [
        errors.Invalid.fields("x", [errors.FieldError(f"data[{n}]", "ä" * 40) for n in range(5_000)]),
        errors.Invalid("ä" * 100_000, [errors.FieldError("p" * 100_000, "m" * 100_000)]),
        errors.FieldConflict("x" * 100_000, [errors.FieldOwner(f"data[{n}]", "team-a") for n in range(5_000)]),
        errors.PreconditionFailed("ä" * 100_000, metadata={"kind": "Pod", "key": "k" * 100_000}),
        errors.NotFound("half of a pair: \ud800", metadata={"key": "\udfff"}),
    ],
    ids=["many fields", "long field", "many owners", "long text", "no character"],
)
def test_whatever_an_error_says_fits_behind_an_answer(error: errors.PodwireError) -> None:
    status = errors.to_grpc_status(error)
    details = dict(status.trailing_metadata)["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert len(quote(status.details)) + len(b64encode(details)) < 8_000
    assert type(errors.from_status(errors.to_status(error))) is type(error)


def test_of_very_many_fields_the_last_ones_are_counted() -> None:
    wrong = [errors.FieldError(f"data[{n}]", "is wrong") for n in range(5_000)]
    conflicts = [errors.FieldOwner(f"data[{n}]", "team-a") for n in range(5_000)]
    invalid = errors.from_status(errors.to_status(errors.Invalid.fields("x", wrong)))
    conflict = errors.from_status(errors.to_status(errors.FieldConflict("x", conflicts)))
    assert isinstance(invalid, errors.Invalid)
    assert isinstance(conflict, errors.FieldConflict)
    assert list(invalid.errors[:-1]) == wrong[: len(invalid.errors) - 1]
    assert str(invalid.errors[-1]) == f"and {5_001 - len(invalid.errors)} more"
    assert list(conflict.owners[:-1]) == conflicts[: len(conflict.owners) - 1]
    assert conflict.owners[-1] == errors.FieldOwner(f"and {5_001 - len(conflict.owners)} more", "")


def test_a_write_that_the_end_of_its_call_has_overtaken_is_no_fault_of_the_server() -> None:
    metadata = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, metadata, metadata, "Internal error from Core")
    assert isinstance(errors.from_rpc_error(error), errors.Unavailable)
