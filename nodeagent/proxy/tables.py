"""The kernel's side of the rules: read once, then changed by differences, service by service. Blocking: for a thread.

What was applied is remembered, so that a change costs what it changes. Anything that did not go as remembered (a
restore that failed because somebody flushed our chains) ends in one recovery: read what is there, apply the difference
to all that is wanted. A start is the same, which is why a restarted agent touches nothing that is right already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cni.iptables import Iptables, IptablesError, Kind
from nodeagent.proxy import difference
from nodeagent.proxy.difference import Present, between, in_pieces, join, script
from nodeagent.proxy.rules import NOTHING, Chain, Entry, Facts, Rules, fixed_chains, jumps

_TABLES: Final = ("filter", "nat")

_SERVICES_IN_A_PIECE: Final[Mapping[Kind, int]] = {"nft": 50, "legacy": 500}
"""iptables-nft takes time that grows with the square of a script: 3,000 services in one take 32 s, in pieces 1 s. The
older tables are read and written whole for each script."""


class Tables:
    """The service rules in the kernel. One thread at a time."""

    def __init__(self, iptables: Iptables, facts: Facts) -> None:
        self._iptables = iptables
        self._piece = _SERVICES_IN_A_PIECE[iptables.kind]
        self._fixed = fixed_chains(facts)
        self._jumps = jumps(facts)
        self._applied: dict[str, Rules] | None = None

    def apply(self, wanted: Mapping[str, Rules]) -> int:
        """Gives each named service its rules (an empty set: none); says how many needed a change.

        Raises IptablesError; then everything is read again at the next `replace`, which has to come first.
        """
        if self._applied is None:
            raise IptablesError(("apply",), "the state of the kernel is not known")
        changes = {key: between(self._applied.get(key, NOTHING), rules) for key, rules in wanted.items()}
        changes = {key: change for key, change in changes.items() if change}
        try:
            for piece in in_pieces(changes, self._piece):
                self._restore(script(join(changes[key] for key in piece)))
        except IptablesError:
            self._applied = None
            raise
        for key, rules in wanted.items():
            if rules == NOTHING:
                self._applied.pop(key, None)
            else:
                self._applied[key] = rules
        return len(changes)

    def replace(self, wanted: Mapping[str, Rules]) -> int:
        """Makes the kernel's rules those of `wanted` and no others; says how many services needed a change."""
        self._applied = None
        present = self._read()
        self._restore(difference.foundation(present, self._fixed))
        entries = frozenset(present.entries)
        changes = [change for rules in wanted.values() if (change := between(_there(present, entries, rules), rules))]
        for piece in in_pieces(changes, self._piece):
            self._restore(script(join(piece)))
        self._restore(difference.connection(present, self._jumps))
        everything = Rules(
            {leaf: chain for rules in wanted.values() for leaf, chain in rules.leaves.items()},
            frozenset(entry for rules in wanted.values() for entry in rules.entries),
        )
        for leftover in difference.leftovers(present, everything):
            self._restore(leftover)
        self._applied = {key: rules for key, rules in wanted.items() if rules != NOTHING}
        return len(changes)

    def is_intact(self) -> bool:
        """Whether the ways into our chains are there: what a flush by somebody else takes first. Cheap at any size."""
        ways: dict[Chain, set[str]] = {}
        for entry in self._jumps:
            ways.setdefault(entry.chain, set()).add(f"-A {entry.chain.name} {entry.rule}")
        try:
            return all(rules <= self._rules_of(chain) for chain, rules in ways.items())
        except IptablesError:
            return False

    def remove(self) -> None:
        """Takes away everything of ours."""
        self._applied = None
        for piece in difference.removal(self._read()):
            self._restore(piece)

    def _rules_of(self, chain: Chain) -> set[str]:
        return set(self._iptables.run("-t", chain.table, "-S", chain.name).splitlines())

    def _read(self) -> Present:
        return difference.parse({table: self._iptables.save(table) for table in _TABLES}, self._fixed)

    def _restore(self, text: str) -> None:
        if text:
            self._iptables.restore(text)


def _there(present: Present, entries: frozenset[Entry], rules: Rules) -> Rules:
    """The part of `rules` that the kernel has something of."""
    leaves = {leaf: present.chains[leaf] for leaf in rules.leaves if leaf in present.chains}
    return Rules(leaves, rules.entries & entries)
