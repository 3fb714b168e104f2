"""The iptables programs of the host: which of its two kinds is in use, and how to run them.

A host has rules in nftables or in the older tables, and a rule set in the other kind works against the first: the kind
that already has rules is the one to use, and the host's default where neither has. Programs run as children of
whoever calls, in the caller's network namespace; `subprocess` starts them with vfork, which is safe beside gRPC.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

Kind = Literal["nft", "legacy"]

WAIT_SECONDS: Final = 10
"""How long a program waits for another one that holds the lock (legacy only: nftables has transactions)."""

_TIMEOUT_SECONDS: Final = 60.0


class IptablesError(Exception):
    """An iptables program failed. `stderr` has its words."""

    def __init__(self, command: Sequence[str], stderr: str) -> None:
        super().__init__(f"{' '.join(command)} failed: {stderr.strip() or 'it said nothing'}")
        self.stderr = stderr


class Iptables(NamedTuple):
    """One kind of iptables. `lock_file` is for hosts that share a file system: the lock is meant to be one a host."""

    kind: Kind
    lock_file: Path | None = None
    program: Literal["iptables", "ip6tables"] = "iptables"

    def run(self, *arguments: str) -> str:
        """What `iptables -w ARGUMENTS` prints."""
        return self._call(f"{self.program}-{self.kind}", "-w", str(WAIT_SECONDS), *arguments)

    def has(self, table: str, chain: str, *rule: str) -> bool:
        """Whether the chain has that rule."""
        try:
            self.run("-t", table, "-C", chain, *rule)
        except IptablesError:
            return False
        return True

    def ensure(self, table: str, chain: str, *rule: str) -> None:
        """Puts the rule at the chain's end unless the chain has it."""
        if not self.has(table, chain, *rule):
            self.run("-t", table, "-A", chain, *rule)

    def save(self, table: str) -> str:
        """The table in the form of iptables-save."""
        return self._call(f"{self.program}-{self.kind}-save", "-t", table)

    def restore(self, script: str) -> None:
        """Applies a script of iptables-restore; what it does not name stays. Each table commits at once or not."""
        self._call(f"{self.program}-{self.kind}-restore", "-w", str(WAIT_SECONDS), "--noflush", stdin=script)

    def _call(self, program: str, *arguments: str, stdin: str = "") -> str:
        return _run((program, *arguments), self._environment(), stdin)

    def _environment(self) -> Mapping[str, str]:
        environment = dict(os.environ)
        if self.lock_file is not None:
            environment["XTABLES_LOCKFILE"] = str(self.lock_file)
        return environment


def _run(command: Sequence[str], environment: Mapping[str, str], stdin: str = "") -> str:
    try:
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise IptablesError(command, f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise IptablesError(command, f"no end after {_TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise IptablesError(command, done.stderr)
    return done.stdout


def detect(lock_file: Path | None = None) -> Iptables:
    """The kind that this network namespace uses. Raises IptablesError where iptables is not installed."""
    legacy, nft = Iptables("legacy", lock_file), Iptables("nft", lock_file)
    in_legacy = _rules(legacy) if _legacy_tables_exist() else 0
    if in_legacy and in_legacy >= _rules(nft):
        return legacy
    version = _run(("iptables", "--version"), os.environ)
    return nft if "nf_tables" in version else legacy


def _legacy_tables_exist() -> bool:
    """Whether anything used the older tables here: asking iptables-legacy would make them."""
    try:
        return bool(Path("/proc/thread-self/net/ip_tables_names").read_text().strip())
    except OSError:
        return False


def _rules(iptables: Iptables) -> int:
    if shutil.which(f"iptables-{iptables.kind}-save") is None:
        return 0
    return sum(line.startswith("-A ") for table in ("nat", "filter") for line in iptables.save(table).splitlines())
