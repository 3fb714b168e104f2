"""The files that every container of a pod gets: /etc/hosts, /etc/hostname, /etc/resolv.conf. Their text, and no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podwire import v1

LONGEST_HOSTNAME: Final = 63
"""Linux allows 64 bytes; a DNS label has 63."""
_MOST_SEARCHES: Final = 32
"""Kubernetes' limits for dnsConfig since 1.28 (MaxDNSSearchPaths), and of nameservers (glibc's MAXNS)."""
_MOST_NAMESERVERS: Final = 3


def hostname(pod: v1.Pod) -> str:
    """The pod's host name: what it asks for, else its own name, cut to what a DNS label may have."""
    name = pod.spec.hostname or pod.metadata.name
    return name[:LONGEST_HOSTNAME].rstrip("-.")


def hosts(pod: v1.Pod, addresses: Sequence[str], node_hosts: str) -> str:
    """/etc/hosts: with the pod's network its own addresses, with the host's the node's file; then the aliases."""
    if pod.spec.host_network:
        lines = ["# Managed by Podwire (a copy of the node's).", *node_hosts.splitlines()]
    else:
        lines = [
            "# Managed by Podwire.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "ff00::0\tip6-mcastprefix",
            "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
            *(f"{address}\t{hostname(pod)}" for address in addresses),
        ]
    aliases = ["\t".join((alias.ip, *alias.hostnames)) for alias in pod.spec.host_aliases]
    if aliases:
        lines += ["", "# Entries of the pod's hostAliases.", *aliases]
    return "\n".join(lines) + "\n"


def resolv_conf(pod: v1.Pod, node_resolv_conf: str) -> str:
    """/etc/resolv.conf: the node's, unless dnsPolicy is None; then what dnsConfig adds."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    if pod.spec.dns_policy != "None":
        for line in node_resolv_conf.splitlines():
            match line.split():
                case ["nameserver", address, *_]:
                    nameservers.append(address)
                case ["search", *domains]:
                    # The last such line counts (resolv.conf(5)).
                    searches = domains
                case ["options", *words]:
                    options += words
    config = pod.spec.dns_config
    nameservers += [address for address in config.nameservers if address not in nameservers]
    searches += [domain for domain in config.searches if domain not in searches]
    asked = {option.name: f"{option.name}:{option.value}" if option.value else option.name for option in config.options}
    options = [word for word in options if word.partition(":")[0] not in asked] + list(asked.values())
    lines = [f"nameserver {address}" for address in nameservers[:_MOST_NAMESERVERS]]
    if searches:
        lines.append(f"search {' '.join(searches[:_MOST_SEARCHES])}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)
