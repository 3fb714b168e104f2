"""What every test needs: the programs that scripts/setup unpacked are on PATH behind the machine's own."""

import os
from pathlib import Path

TOOLS = Path(__file__).parent.parent / ".tools"

os.environ["PATH"] = os.pathsep.join(
    [os.environ["PATH"], *(str(TOOLS / folder) for folder in ("usr/bin", "usr/sbin", "bin"))]
)
