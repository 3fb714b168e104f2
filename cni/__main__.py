"""`podwire-cni`: the plugin as the CNI specification calls it, with the request in the environment and on stdin.

Containerd runs it for every pod, so it starts fast: nothing here imports asyncio or grpc.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cni.configuration import NAME, SUPPORTED_VERSIONS, at_least, version_of
from cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    CniError,
)
from cni.ipam import Owner
from cni.plugin import Attachment, Plugin

_INTERFACE: Final = re.compile(r"[^/:\s]{1,15}")
_VALID_ATTACHMENTS: Final = "cni.dev/valid-attachments"
_USAGE: Final = (
    f"podwire-cni is a CNI plugin; protocol versions {', '.join(SUPPORTED_VERSIONS)}.\n"
    "A container runtime runs it with CNI_COMMAND set and a network configuration on standard input.\n"
)

Answer = Mapping[str, Any] | None
Verb = Callable[[Mapping[str, Any], Mapping[str, str]], Answer]


def _attachment(environment: Mapping[str, str], *, namespace: bool) -> Attachment:
    wrong = []
    container_id = environment.get("CNI_CONTAINERID", "")
    interface = environment.get("CNI_IFNAME", "")
    path = environment.get("CNI_NETNS", "")
    if not NAME.fullmatch(container_id):
        wrong.append(f"CNI_CONTAINERID: must match {NAME.pattern}, not {container_id!r}")
    if not _INTERFACE.fullmatch(interface) or interface in (".", ".."):
        wrong.append(f"CNI_IFNAME: must be the name of an interface, not {interface!r}")
    if namespace and not path:
        wrong.append("CNI_NETNS: must be the path of a network namespace")
    if wrong:
        raise CniError(INVALID_ENVIRONMENT, "the environment is invalid", "; ".join(wrong))
    return Attachment(container_id, interface, Path(path) if path else None)


def _add(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Answer:
    return Plugin().add(raw, _attachment(environment, namespace=True))


def _delete(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Answer:
    Plugin().delete(raw, _attachment(environment, namespace=False))
    return None


def _check(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Answer:
    _needs(raw, "CHECK", "0.4.0")
    Plugin().check(raw, _attachment(environment, namespace=True))
    return None


def _collect(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Answer:
    _needs(raw, "GC", "1.1.0")
    listed = raw.get(_VALID_ATTACHMENTS)
    try:
        valid = {Owner(str(entry["containerID"]), str(entry["ifname"])) for entry in listed or ()}
    except (TypeError, KeyError) as error:
        raise CniError(
            INVALID_CONFIGURATION, f"{_VALID_ATTACHMENTS} must be a list of objects with containerID and ifname"
        ) from error
    if listed is None:
        raise CniError(INVALID_CONFIGURATION, f"{_VALID_ATTACHMENTS} is missing: GC would collect everything")
    Plugin().collect(raw, valid)
    return None


def _status(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Answer:
    _needs(raw, "STATUS", "1.1.0")
    Plugin().status(raw)
    return None


def _version(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Answer:
    return {"cniVersion": raw.get("cniVersion", SUPPORTED_VERSIONS[-1]), "supportedVersions": list(SUPPORTED_VERSIONS)}


def _needs(raw: Mapping[str, Any], verb: str, least: str) -> None:
    if not at_least(version_of(raw), least):
        raise CniError(INCOMPATIBLE_VERSION, f"{verb} needs cniVersion {least} or later, not {raw['cniVersion']}")


_VERBS: Final[Mapping[str, Verb]] = {
    "ADD": _add,
    "DEL": _delete,
    "CHECK": _check,
    "GC": _collect,
    "STATUS": _status,
    "VERSION": _version,
}


def answer(command: str, stdin: str, environment: Mapping[str, str]) -> Answer:
    """What the plugin answers to one request, None for a success that says nothing. Raises CniError."""
    verb = _VERBS.get(command)
    if verb is None:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND must be one of {', '.join(_VERBS)}, not {command!r}")
    try:
        raw = json.loads(stdin)
    except ValueError as error:
        raise CniError(
            DECODING_FAILURE, "the network configuration on standard input is no JSON", str(error)
        ) from error
    if not isinstance(raw, dict):
        raise CniError(DECODING_FAILURE, "the network configuration on standard input must be a JSON object")
    return verb(raw, environment)


def main() -> None:
    command = os.environ.get("CNI_COMMAND")
    if command is None:
        sys.stderr.write(_USAGE)
        sys.exit(1)
    stdin = sys.stdin.read()
    try:
        result = answer(command, stdin, os.environ)
    except CniError as error:
        print(json.dumps(error.to_json(_version_to_answer(stdin))))
        sys.exit(1)
    if result is not None:
        print(json.dumps(result))


def _version_to_answer(stdin: str) -> str:
    try:
        version = json.loads(stdin)["cniVersion"]
    except (ValueError, TypeError, KeyError):
        return SUPPORTED_VERSIONS[-1]
    return version if version in SUPPORTED_VERSIONS else SUPPORTED_VERSIONS[-1]


if __name__ == "__main__":
    main()
