"""What several clients are to do at once, as hypothesis makes it up: a script for each, of steps on a few objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from typing import Any, Final

from hypothesis import strategies as st

from podwire import kinds
from podwire.kinds import Kind

KINDS: Final = (kinds.CONFIG_MAP, kinds.POD, kinds.DEPLOYMENT)
_BY_NAME: Final = {kind.plural: kind for kind in KINDS}
# Pods of this name are on a node, so that their deletion takes an agent; the others go at once.
ON_A_NODE: Final = "a"
NODE: Final = "n1"
NAMES: Final = (ON_A_NODE, "b")
TIERS: Final = ("x", "y", "z")


class Verb(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    STATUS = "status"
    # A merge patch of a label.
    LABEL = "label"
    # A JSON patch that tests what it replaces.
    COUNT = "count"
    APPLY = "apply"
    # A merge patch that adds a finalizer, or takes it off.
    FINALIZE = "finalize"
    DELETE = "delete"
    LIST = "list"
    WATCH = "watch"


@dataclass(frozen=True)
class Step:
    """`conditional` names the state that was read; `choice` is whatever else the verb leaves open."""

    verb: Verb
    # In the plural, because that prints well.
    kind_name: str
    name: str
    conditional: bool
    choice: int

    @property
    def kind(self) -> Kind:
        return _BY_NAME[self.kind_name]


Program = list[list[Step]]


@dataclass(frozen=True)
class Selection:
    """Selectors as text, and what they mean."""

    labels: str
    fields: str
    meaning: Callable[[Any], bool]

    def __str__(self) -> str:
        return f"{self.labels or '-'} {self.fields or '-'}"


EVERYTHING: Final = Selection("", "", lambda obj: True)
SELECTIONS: Final = (
    EVERYTHING,
    Selection("tier=x", "", lambda obj: obj.metadata.labels.get("tier") == "x"),
    Selection("tier!=x", "", lambda obj: obj.metadata.labels.get("tier") != "x"),
    Selection("tier in (x,y)", "", lambda obj: obj.metadata.labels.get("tier") in ("x", "y")),
    Selection("!tier", "", lambda obj: "tier" not in obj.metadata.labels),
    Selection("", "metadata.name=b", lambda obj: obj.metadata.name == "b"),
)
OF_PODS: Final = (
    Selection("", f"spec.nodeName={NODE}", lambda obj: obj.spec.node_name == NODE),
    Selection("", "status.phase!=Running", lambda obj: obj.status.phase != "Running"),
    Selection("tier=y", "status.phase=Running", lambda o: o.metadata.labels.get("tier") == "y" and _runs(o)),
)


def _runs(pod: Any) -> bool:
    return bool(pod.status.phase == "Running")


def selections_of(kind: Kind) -> tuple[Selection, ...]:
    return (*SELECTIONS, *OF_PODS) if kind is kinds.POD else SELECTIONS


_steps: Final = st.builds(
    Step,
    verb=st.sampled_from([*Verb, Verb.UPDATE, Verb.DELETE, Verb.LIST]),
    kind_name=st.sampled_from(list(_BY_NAME)),
    name=st.sampled_from(NAMES),
    conditional=st.booleans(),
    choice=st.integers(0, 11),
)


# Every client begins with an object of its own, all of them in the same moment: most steps need one to be there.
_FIRST: Final = [
    Step(Verb.CREATE, kind.plural, name, False, number) for number, kind in enumerate(KINDS) for name in NAMES
]


def programs(clients: int, steps: int) -> st.SearchStrategy[Program]:
    """Of so many clients, each with up to so many steps."""
    return st.tuples(*(_script(first, steps) for first in islice(cycle(_FIRST), clients))).map(list)


def _script(first: Step, steps: int) -> st.SearchStrategy[list[Step]]:
    return st.lists(_steps, min_size=steps // 2, max_size=steps).map(lambda following: [first, *following])
