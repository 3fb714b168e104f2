"""What a list or watch selects of a kind, decided on entries alone, and where an index looks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from controlplane.store.entries import Entry
from podwire import errors
from podwire.keys import join_key
from podwire.kinds import Kind
from podwire.selectors import FieldSelector, LabelSelector


class By(StrEnum):
    """The ways in which watchers are indexed, the most selective first."""

    KEY = "key"
    FIELD = "field"
    NAMESPACE = "namespace"
    ALL = "all"


class Route(NamedTuple):
    """Where in the index a selection stands: only changes that come by there can matter to it."""

    by: By
    value: str = ""
    # The field's path, where by is FIELD.
    path: str = ""


@dataclass(frozen=True)
class Selection:
    """Equal selections, as text, share their work. They are compared within a kind only."""

    kind: Kind = field(compare=False)
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    labels: LabelSelector = field(default=LabelSelector(), compare=False)
    fields: FieldSelector | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, kind: Kind, namespace: str, label_selector: str, field_selector: str) -> Selection:
        """Raises Invalid where a selector is wrong, or a namespace is given for a kind that has none."""
        if namespace and not kind.namespaced:
            raise errors.Invalid(f"{kind.plural} have no namespace: leave {namespace!r} out")
        labels = LabelSelector.parse(label_selector)
        fields = FieldSelector.parse(field_selector, kind)
        return cls(kind, namespace, label_selector, field_selector, labels, fields)

    def matches(self, entry: Entry) -> bool:
        if self.namespace and entry.namespace != self.namespace:
            return False
        if self.labels.requirements and not self.labels.matches(entry.labels):
            return False
        return self.fields is None or _fields_match(self.fields, entry.fields)

    @property
    def selects_all(self) -> bool:
        """Everything in the namespace, or everything where there is none: entries need not be looked at."""
        return not self.labels.requirements and (self.fields is None or not self.fields.terms)

    def route(self) -> Route:
        fields = self.fields
        if fields is not None:
            namespace = self.namespace or fields.exact("metadata.namespace") or ""
            name = fields.exact("metadata.name")
            if name is not None and (namespace or not self.kind.namespaced):
                return Route(By.KEY, join_key(namespace, name))
            for path in self.kind.selectable:
                value = fields.exact(path)
                if value is not None:
                    return Route(By.FIELD, value, path)
            if namespace:
                return Route(By.NAMESPACE, namespace)
        return Route(By.NAMESPACE, self.namespace) if self.namespace else Route(By.ALL)


def _fields_match(selector: FieldSelector, fields: Mapping[str, str]) -> bool:
    return all((fields[term.path] == term.value) is term.equal for term in selector.terms)
