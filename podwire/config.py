"""Where a client finds its control plane: a small YAML file that a lab or an administrator wrote.

```yaml
endpoints: ["10.77.0.2:6440"]     # or unix:/path; several are tried in this order
tls: {ca: ca.pem, cert: client.pem, key: client.key}     # paths are relative to the file
namespace: default
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from podwire import errors, yaml_loader
from podwire.client import Tls

ENVIRONMENT_VARIABLE: Final = "PODWIRE_CONFIG"
SYSTEM: Final = Path("/etc/podwire/config")
LABS: Final = Path("/run/podwire/labs")


@dataclass(frozen=True, slots=True)
class Config:
    """`path` is the file it came from."""

    endpoints: tuple[str, ...]
    tls: Tls | None
    namespace: str
    path: Path


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    system: Path = SYSTEM,
    labs: Path = LABS,
) -> Config:
    """The file at `path`, else what $PODWIRE_CONFIG names, ~/.podwire/config, /etc/podwire/config, or the one lab's.

    Raises Invalid where there is none, more than one lab, or the file is wrong.
    """
    if path is None:
        path = _find(environment, system, labs)
    try:
        text = path.read_text()
    except OSError as error:
        raise errors.Invalid(f"cannot read the client's configuration {path}: {error.strerror}") from None
    return _parse(text, path)


def _find(environment: Mapping[str, str], system: Path, labs: Path) -> Path:
    if named := environment.get(ENVIRONMENT_VARIABLE):
        return Path(named)
    own = Path(environment.get("HOME", "/root")) / ".podwire" / "config"
    for candidate in (own, system):
        if candidate.exists():
            return candidate
    running = sorted(labs.glob("*/client.yaml"))
    if len(running) == 1:
        return running[0]
    if running:
        names = ", ".join(lab.parent.name for lab in running)
        raise errors.Invalid(
            f"several labs are running ({names}): choose one with {ENVIRONMENT_VARIABLE}={running[0]} or --config"
        )
    raise errors.Invalid(
        f"no control plane is configured: start a lab (scripts/up), or name a configuration file with --config, "
        f"{ENVIRONMENT_VARIABLE}, {own} or {system}"
    )


def _parse(text: str, path: Path) -> Config:
    parts = [part.tree for part in yaml_loader.load(text, str(path))]
    tree = parts[0] if len(parts) == 1 else None
    wrong: list[errors.FieldError] = []
    if not isinstance(tree, dict):
        raise errors.Invalid(f"{path} must hold one mapping with endpoints, tls and namespace")
    for key in tree.keys() - {"endpoints", "tls", "namespace"}:
        wrong.append(errors.FieldError(key, "unknown field: known are endpoints, tls and namespace"))
    endpoints = tree.get("endpoints")
    if not isinstance(endpoints, list) or not endpoints or not all(isinstance(each, str) for each in endpoints):
        wrong.append(errors.FieldError("endpoints", 'must be a list of addresses as in ["10.0.0.1:6440"]'))
    namespace = tree.get("namespace") or "default"
    if not isinstance(namespace, str):
        wrong.append(errors.FieldError("namespace", "must be text"))
    tls = _parse_tls(tree.get("tls"), path.parent, wrong)
    if wrong:
        raise errors.Invalid.fields(f"the client's configuration {path}", wrong)
    return Config(tuple(tree["endpoints"]), tls, str(namespace), path)


def _parse_tls(tree: Any, folder: Path, wrong: list[errors.FieldError]) -> Tls | None:
    if tree is None:
        return None
    names = ("ca", "cert", "key")
    if not isinstance(tree, dict) or tree.keys() != set(names) or not all(isinstance(tree[n], str) for n in names):
        wrong.append(errors.FieldError("tls", "must name three files: ca, cert and key"))
        return None
    return Tls(*(folder / tree[name] for name in names))
