"""Errors keep their type, fields and numbers over the wire."""

import grpc
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
