"""The process that holds a pod: `catatonit -P`, which sleeps, and reaps what a shared PID namespace gives it.

It needs no image: its root is a folder with nothing but the node's own static binary, used read-only by every pod.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

COMMAND: Final = ("/catatonit", "-P")


class PauseMissing(RuntimeError):
    """The node has no catatonit."""


def prepare_root(parent: Path) -> Path:
    """The folder with the node's catatonit in it, under `parent`; made once for each version. Raises PauseMissing."""
    found = shutil.which("catatonit")
    if found is None:
        raise PauseMissing("catatonit is not on PATH: install it (apt-get install catatonit)")
    program = Path(found).read_bytes()
    # Pods that run keep the version they started with: nothing is replaced under them.
    root = parent / hashlib.sha256(program).hexdigest()[:16]
    if not (root / "catatonit").exists():
        for mount_point in ("proc", "dev"):
            (root / mount_point).mkdir(parents=True, exist_ok=True)
        unfinished = root / ".catatonit"
        unfinished.write_bytes(program)
        unfinished.chmod(0o555)
        unfinished.replace(root / "catatonit")
    return root
