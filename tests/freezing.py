"""Makes a child of ours stand still, as a virtual machine that is paused does."""

from __future__ import annotations

import os
import signal


def freeze(pid: int) -> None:
    """Until SIGCONT. Returns once all its threads stand: the signal alone leaves them time for an answer more."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
