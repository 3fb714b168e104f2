"""What differs between the IP families, for rules that are written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Family:
    """An IP family as iptables, endpoint slices and conntrack know it."""

    name: str
    """As in EndpointSlice.addressType and Service.spec.ipFamilies."""
    program: Literal["iptables", "ip6tables"]
    host_prefix: int
    host_mask: str
    loopback: str
    address_family: int
    """AF_INET or AF_INET6."""

    def host(self, address: str) -> str:
        """One address as iptables-save writes it."""
        return f"{address}/{self.host_prefix}"

    def socket_address(self, address: str, port: int) -> str:
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


IPV4: Final = Family("IPv4", "iptables", 32, "255.255.255.255", "127.0.0.0/8", 2)
