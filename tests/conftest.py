"""What every test needs: the programs that scripts/setup unpacked are on PATH behind the machine's own."""

import os

from lab.programs import search_path

os.environ["PATH"] = search_path()
