"""From the rules that are there to those wanted: scripts for iptables-restore, each a piece that makes sense alone.

A script runs `--noflush`: what it does not name stays. Within a table it is one transaction, so a service's leaves and
the rule that leads to them change together. Across tables the order is what keeps a service that loses or gains its
last endpoint from a moment with neither: a refusal is added before its addresses stop leading anywhere and deleted
after they do again; meanwhile it is harmless, because translated packets no longer match it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, TypeVar

from nodeagent.proxy.rules import LEAF_KINDS, PREFIX, SHARED, Chain, Entry, Rules

CHAINS_IN_A_PIECE: Final = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """What to write, add and delete. `entries_gone` may name an entry more than once, where it is there twice."""

    leaves: Mapping[Chain, tuple[str, ...]] = field(default_factory=dict)
    leaves_gone: frozenset[Chain] = frozenset()
    entries: frozenset[Entry] = frozenset()
    entries_gone: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.leaves or self.leaves_gone or self.entries or self.entries_gone)


def between(old: Rules, new: Rules) -> Change:
    """The change from `old` to `new`."""
    return Change(
        {leaf: rules for leaf, rules in new.leaves.items() if old.leaves.get(leaf) != rules},
        frozenset(old.leaves.keys() - new.leaves.keys()),
        new.entries - old.entries,
        tuple(old.entries - new.entries),
    )


def join(changes: Iterable[Change]) -> Change:
    """Changes of different services as one."""
    listed = list(changes)
    return Change(
        {leaf: rules for change in listed for leaf, rules in change.leaves.items()},
        frozenset(chain.from_iterable(change.leaves_gone for change in listed)),
        frozenset(chain.from_iterable(change.entries for change in listed)),
        tuple(chain.from_iterable(change.entries_gone for change in listed)),
    )


def in_pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


def script(change: Change) -> str:
    """The script that makes `change`, for shared chains that exist."""
    filter_adds = [f"-A {entry.chain.name} {entry.rule}" for entry in change.entries if entry.chain.table == "filter"]
    filter_deletes = [
        f"-D {entry.chain.name} {entry.rule}" for entry in change.entries_gone if entry.chain.table == "filter"
    ]
    nat = [
        *(f":{leaf.name} - [0:0]" for leaf in (*change.leaves, *change.leaves_gone) if leaf.table == "nat"),
        *(f"-A {leaf.name} {rule}" for leaf, rules in change.leaves.items() if leaf.table == "nat" for rule in rules),
        *(f"-A {entry.chain.name} {entry.rule}" for entry in change.entries if entry.chain.table == "nat"),
        *(f"-D {entry.chain.name} {entry.rule}" for entry in change.entries_gone if entry.chain.table == "nat"),
        *(f"-X {leaf.name}" for leaf in sorted(change.leaves_gone, key=_before_what_it_refers_to)),
    ]
    return _tables([("filter", filter_adds), ("nat", nat), ("filter", filter_deletes)])


def _before_what_it_refers_to(leaf: Chain) -> int:
    return LEAF_KINDS.index(leaf.name.removeprefix(PREFIX).partition("-")[0])


def _tables(parts: Iterable[tuple[str, list[str]]]) -> str:
    return "".join("\n".join((f"*{table}", *lines, "COMMIT", "")) for table, lines in parts if lines)


@dataclass(frozen=True, slots=True)
class Present:
    """What the kernel has of ours: leaves and fixed chains, entries (a list: one may be there twice), and the rules in
    the tables' own chains that lead to a chain of ours."""

    chains: Mapping[Chain, tuple[str, ...]]
    entries: tuple[Entry, ...]
    jumps: tuple[Entry, ...]

    def leaves(self) -> dict[Chain, tuple[str, ...]]:
        return {chain_: rules for chain_, rules in self.chains.items() if is_leaf(chain_.name)}


def is_leaf(name: str) -> bool:
    """Whether a chain's name is that of a service's own chain."""
    kind, dash, digits = name.removeprefix(PREFIX).partition("-")
    return name.startswith(PREFIX) and bool(dash) and kind in LEAF_KINDS and bool(digits)


def parse(saves: Mapping[str, str], ours: Iterable[Chain]) -> Present:
    """What iptables-save printed, by table. `ours` are the fixed chains; leaves and shared chains are known by name."""
    mine = {*ours, *SHARED}
    chains: dict[Chain, list[str]] = {}
    jumps: list[Entry] = []
    for table, text in saves.items():
        for line in text.splitlines():
            if line.startswith(":"):
                found = Chain(table, line[1:].split(" ", 1)[0])
                if found in mine or is_leaf(found.name):
                    chains.setdefault(found, [])
            elif line.startswith("-A "):
                _, name, rule = line.split(" ", 2)
                if (found := Chain(table, name)) in chains:
                    chains[found].append(rule)
                elif Chain(table, rule.rpartition("-j ")[2].split(" ", 1)[0]) in mine:
                    jumps.append(Entry(found, rule))
    entries = tuple(Entry(shared, rule) for shared in SHARED for rule in chains.get(shared, ()))
    return Present({found: tuple(rules) for found, rules in chains.items()}, entries, tuple(jumps))


def foundation(present: Present, fixed: Mapping[Chain, tuple[str, ...]]) -> str:
    """The script that makes the shared chains that are missing and writes the fixed ones that differ."""
    lines: dict[str, list[str]] = {"filter": [], "nat": []}
    for shared in SHARED:
        if shared not in present.chains:
            lines[shared.table].append(f":{shared.name} - [0:0]")
    for fixed_chain, rules in fixed.items():
        if present.chains.get(fixed_chain) != rules:
            lines[fixed_chain.table].append(f":{fixed_chain.name} - [0:0]")
            lines[fixed_chain.table] += [f"-A {fixed_chain.name} {rule}" for rule in rules]
    return _tables(lines.items())


def connection(present: Present, wanted: Iterable[Entry]) -> str:
    """The script that makes the tables' own chains lead to ours, once each, before everything else in them."""
    counted = Counter(present.jumps)
    expected = set(wanted)
    lines: dict[str, list[str]] = {"filter": [], "nat": []}
    for entry, count in counted.items():
        surplus = count - (entry in expected)
        lines[entry.chain.table] += [f"-D {entry.chain.name} {entry.rule}"] * surplus
    for entry in sorted(expected - counted.keys(), reverse=True):
        lines[entry.chain.table].append(f"-I {entry.chain.name} 1 {entry.rule}")
    return _tables(lines.items())


def leftovers(present: Present, wanted: Rules) -> Iterator[str]:
    """Scripts that take away what no service needs, entries first, then leaves in the order of their references."""
    counted = Counter(present.entries)
    surplus = [entry for entry, count in counted.items() for _ in range(count - (1 if entry in wanted.entries else 0))]
    for entries in in_pieces(surplus, CHAINS_IN_A_PIECE):
        yield script(Change(entries_gone=tuple(entries)))
    gone = sorted(present.leaves().keys() - wanted.leaves.keys(), key=_before_what_it_refers_to)
    for leaves in in_pieces(gone, CHAINS_IN_A_PIECE):
        yield script(Change(leaves_gone=frozenset(leaves)))


def removal(present: Present) -> Iterator[str]:
    """Scripts that take away everything of ours, the ways in first."""
    yield connection(present, ())
    yield from leftovers(present, Rules())
    lines: dict[str, list[str]] = {"filter": [], "nat": []}
    for rest in present.chains.keys() - present.leaves().keys():
        lines[rest.table].append(f":{rest.name} - [0:0]")
    for table, declared in lines.items():
        lines[table] = [*declared, *(f"-X {line[1:].split(' ', 1)[0]}" for line in declared)]
    yield _tables(lines.items())
