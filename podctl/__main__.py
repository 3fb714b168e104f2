"""`podctl`."""

from __future__ import annotations

import os


def main() -> None:
    # gRPC's own complaints about connections say less than our errors, and come in the middle of output.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from podctl.cli import app
    from podctl.parsing import Globals

    app(prog_name="podctl", obj=Globals())


if __name__ == "__main__":
    main()
