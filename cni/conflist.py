"""Network configuration lists (CNI specification 1.1, section 1): read, checked, and the one for our own plugin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from cni.configuration import DEFAULT_BRIDGE, NAME, SUPPORTED_VERSIONS
from cni.errors import INVALID_CONFIGURATION, CniError

OWN_PLUGIN: Final = "podwire"
"""The plugin type that is run in this process."""


@dataclass(frozen=True, slots=True)
class ConfList:
    """One network: its plugins in the order of ADD, each as its JSON object."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is our own plugin alone: then the agent keeps the routes to the other nodes."""
        return [plugin["type"] for plugin in self.plugins] == [OWN_PLUGIN]

    def to_json(self) -> dict[str, Any]:
        return {
            "cniVersion": self.version,
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": [dict(plugin) for plugin in self.plugins],
        }


def parse(raw: object, source: str) -> ConfList:
    """The list in a decoded JSON object. Raises CniError that names `source` and everything that is wrong."""
    if not isinstance(raw, Mapping):
        raise CniError(INVALID_CONFIGURATION, f"{source} is no network configuration list", "it must be a JSON object")
    wrong = []
    name = raw.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        wrong.append(f"name: must match {NAME.pattern}, not {name!r}")
    version = _version(raw, wrong)
    plugins = raw.get("plugins")
    if not isinstance(plugins, list) or not plugins:
        wrong.append("plugins: must be a list with at least one plugin")
        plugins = []
    for index, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, Mapping) else None
        if not isinstance(kind, str) or not kind or "/" in kind:
            wrong.append(f"plugins[{index}].type: must be the name of a plugin's executable, not {kind!r}")
    switches = {key: raw.get(key, False) for key in ("disableCheck", "disableGC")}
    wrong += [
        f"{key}: must be true or false, not {value!r}" for key, value in switches.items() if value not in _BOOLEAN
    ]
    if wrong:
        raise CniError(INVALID_CONFIGURATION, f"{source} is no valid network configuration list", "; ".join(wrong))
    return ConfList(
        str(name), version, tuple(plugins), _BOOLEAN[switches["disableCheck"]], _BOOLEAN[switches["disableGC"]]
    )


_BOOLEAN: Final[Mapping[object, bool]] = {True: True, False: False, "true": True, "false": False}
"""The specification allows the words too."""


def _version(raw: Mapping[str, Any], wrong: list[str]) -> str:
    """The newest version that both sides speak: of `cniVersions` where the list has it, else `cniVersion`."""
    offered = [raw["cniVersion"]] if "cniVersion" in raw else []
    listed = raw.get("cniVersions", [])
    offered += listed if isinstance(listed, list) else [listed]
    for version in reversed(SUPPORTED_VERSIONS):
        if version in offered:
            return version
    wrong.append(f"cniVersion: must be one of {', '.join(SUPPORTED_VERSIONS)}, not {raw.get('cniVersion')!r}")
    return ""


def load(folder: Path) -> ConfList:
    """The first list in a node's configuration folder, by file name; a `.conf` with one plugin is a list of one."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".conflist", ".conf", ".json"))
    except OSError as error:
        raise CniError(INVALID_CONFIGURATION, f"{folder} cannot be read", str(error)) from error
    if not files:
        raise CniError(INVALID_CONFIGURATION, f"{folder} has no network configuration list (*.conflist)")
    source = files[0]
    try:
        raw = json.loads(source.read_bytes())
    except (OSError, ValueError) as error:
        raise CniError(INVALID_CONFIGURATION, f"{source} cannot be read as JSON", str(error)) from error
    if isinstance(raw, dict) and "plugins" not in raw and "type" in raw:
        raw = {"cniVersion": raw.get("cniVersion"), "name": raw.get("name"), "plugins": [raw]}
    return parse(raw, str(source))


def default_conflist(
    pod_cidr: str,
    *,
    pod_network: str | None = None,
    name: str = "podwire",
    bridge: str = DEFAULT_BRIDGE,
    mtu: int | None = None,
    xtables_lock: Path | None = None,
) -> ConfList:
    """The list for our own plugin on a node with that pod CIDR.

    `pod_network` is the network of all nodes' pods, to which nothing is masqueraded (by default only this node's);
    `mtu` in bytes, by default that of the interface with the default route.
    """
    subnet = IPv4Network(pod_cidr)
    plugin: dict[str, Any] = {
        "type": OWN_PLUGIN,
        "bridge": bridge,
        "subnet": str(subnet),
        "podNetwork": pod_network or str(subnet),
        "ipMasq": True,
    }
    if mtu is not None:
        plugin["mtu"] = mtu
    if xtables_lock is not None:
        plugin["xtablesLock"] = str(xtables_lock)
    return parse({"cniVersion": SUPPORTED_VERSIONS[-1], "name": name, "plugins": [plugin]}, "the default list")
