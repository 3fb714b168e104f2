"""Notices at once when somebody else deletes rules that the proxy needs, as `iptables -F` does.

nftables tells of every change (linux/netfilter/nf_tables.h). The older tables tell of nothing: there, and where events
were lost, the proxy's periodic look finds it. The proxy's own changes make the same events, so it says when it works.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from types import TracebackType
from typing import Final, Self

from cni.netlink import NETFILTER, attributes, messages
from nodeagent.proxy.family import Family
from nodeagent.proxy.rules import PREFIX

_TABLES: Final = frozenset({"filter", "nat"})
_BUILT_IN: Final = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_GROUP: Final = 1 << (7 - 1)
"""NFNLGRP_NFTABLES."""
_DELETE_TABLE, _DELETE_CHAIN, _DELETE_RULE = 10 << 8 | 2, 10 << 8 | 5, 10 << 8 | 8
_TABLE: Final = 1
_CHAIN_NAME: Final = 3
_RULE_CHAIN: Final = 2


class ForeignChanges:
    """A watch on nftables. `noticed` is set when something that matters was deleted while the proxy did not work."""

    def __init__(self, family: Family) -> None:
        self.noticed = asyncio.Event()
        self._family = family.address_family
        self._ignoring = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETFILTER)

    def __enter__(self) -> Self:
        self._socket.bind((0, _GROUP))
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def ignore(self) -> None:
        """From now on the changes are the proxy's own."""
        self._read()
        self._ignoring = True

    def attend(self) -> None:
        """They are somebody else's again."""
        self._read()
        self._ignoring = False

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                data = b""
            if not self._ignoring and (not data or self._matters(data)):
                self.noticed.set()

    def _matters(self, data: bytes) -> bool:
        return any(
            payload[:1] == bytes([self._family]) and _concerns_us(kind, payload)
            for kind, _, _, payload in messages(data)
        )


def _concerns_us(kind: int, payload: bytes) -> bool:
    if kind not in (_DELETE_TABLE, _DELETE_CHAIN, _DELETE_RULE):
        return False
    found = attributes(payload, 4)
    if _name(found.get(_TABLE)) not in _TABLES:
        return False
    if kind == _DELETE_TABLE:
        return True
    chain = _name(found.get(_CHAIN_NAME if kind == _DELETE_CHAIN else _RULE_CHAIN))
    return chain.startswith(PREFIX) or chain in _BUILT_IN


def _name(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")
