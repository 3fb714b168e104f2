"""What every object has: its name, labels, annotations, owners; and selectors of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from podwire import kinds, v1
from podwire.kinds import Kind
from podwire.label_syntax import is_key, is_value
from podwire.propagation import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from podwire.validation import names
from podwire.validation.problems import Problems, forbidden, invalid, required, too_long, unsupported

_MOST_ANNOTATIONS: Final = 256 * 1024
# Those without a domain; every other name says whose it is.
_STANDARD_FINALIZERS: Final = (ORPHAN_FINALIZER, FOREGROUND_FINALIZER, "kubernetes")

# Names become host names and parts of DNS names; where they do not, only length and alphabet count.
_NAMES: Final[Mapping[str, Callable[[str, str], Problems]]] = {
    kinds.NAMESPACE.name: names.dns_label,
    kinds.SERVICE.name: names.dns_label_1035,
}


def validate_metadata(kind: Kind, metadata: v1.ObjectMeta) -> Problems:
    path = "metadata"
    if metadata.name:
        yield from _NAMES.get(kind.name, names.dns_subdomain)(f"{path}.name", metadata.name)
    else:
        yield required(f"{path}.name", "name or generateName is required")
    if kind.namespaced:
        yield from names.dns_label(f"{path}.namespace", metadata.namespace)
    elif metadata.namespace:
        yield forbidden(f"{path}.namespace", f"a {kind.name} belongs to no namespace")
    yield from labels(f"{path}.labels", metadata.labels)
    yield from _annotations(f"{path}.annotations", metadata.annotations)
    yield from _owners(f"{path}.ownerReferences", metadata)
    yield from _finalizers(f"{path}.finalizers", metadata.finalizers)


def validate_metadata_update(old: v1.ObjectMeta, new: v1.ObjectMeta) -> Problems:
    for name in ("name", "namespace", "uid"):
        if getattr(old, name) != getattr(new, name):
            yield invalid(f"metadata.{name}", getattr(new, name), "field is immutable")
    added = [finalizer for finalizer in new.finalizers if finalizer not in old.finalizers]
    if old.HasField("deletion_timestamp") and added:
        yield forbidden(
            "metadata.finalizers",
            f"no new finalizers can be added if the object is being deleted, found new: {', '.join(added)}",
        )


def _finalizers(path: str, finalizers: Sequence[str]) -> Problems:
    for i, finalizer in enumerate(finalizers):
        yield from names.qualified_name(f"{path}[{i}]", finalizer)
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            yield invalid(
                f"{path}[{i}]", finalizer, "name is neither a standard finalizer name nor is it fully qualified"
            )
    if ORPHAN_FINALIZER in finalizers and FOREGROUND_FINALIZER in finalizers:
        yield invalid(path, ", ".join(finalizers), f"{ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} exclude each other")


def labels(path: str, values: Mapping[str, str]) -> Problems:
    for key, value in sorted(values.items()):
        # Most are right, and to ask that first takes a third of the time.
        if not (is_key(key) and is_value(value)):
            yield from names.qualified_name(path, key)
            yield from names.label_value(f"{path}[{key}]", value)


def _annotations(path: str, values: Mapping[str, str]) -> Problems:
    for key in sorted(values):
        if not is_key(key.lower()):
            yield from names.qualified_name(path, key.lower())
    if sum(len(key) + len(value.encode()) for key, value in values.items()) > _MOST_ANNOTATIONS:
        yield too_long(path, f"may not be more than {_MOST_ANNOTATIONS} bytes in all")


def _owners(path: str, metadata: v1.ObjectMeta) -> Problems:
    controllers = []
    for i, owner in enumerate(metadata.owner_references):
        for name, value in (
            ("apiVersion", owner.api_version),
            ("kind", owner.kind),
            ("name", owner.name),
            ("uid", owner.uid),
        ):
            if not value:
                yield required(f"{path}[{i}].{name}", "must not be empty")
        if (owner.api_version, owner.kind) == (kinds.EVENT.api_version, kinds.EVENT.name):
            yield invalid(f"{path}[{i}]", owner.name, "an Event is disallowed from being an owner")
        if owner.controller:
            controllers.append(f"{owner.kind}/{owner.name}")
    if len(controllers) > 1:
        yield invalid(path, ", ".join(controllers), "only one reference can have controller set to true")


def selector(path: str, message: v1.LabelSelector) -> Problems:
    """matchLabels and matchExpressions."""
    yield from labels(f"{path}.matchLabels", message.match_labels)
    for i, expression in enumerate(message.match_expressions):
        inner = f"{path}.matchExpressions[{i}]"
        yield from names.qualified_name(f"{inner}.key", expression.key)
        match expression.operator:
            case "In" | "NotIn":
                if not expression.values:
                    yield required(f"{inner}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            case "Exists" | "DoesNotExist":
                if expression.values:
                    yield forbidden(
                        f"{inner}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    )
            case other:
                yield unsupported(f"{inner}.operator", other, ("In", "NotIn", "Exists", "DoesNotExist"))
        for j, value in enumerate(expression.values):
            yield from names.label_value(f"{inner}.values[{j}]", value)
