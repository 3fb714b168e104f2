"""Work in another network namespace without forking and without touching the caller's thread.

`setns` changes one thread. A thread of its own enters the namespace, does the work, and ends, so that no thread of a
pool is ever left in a pod's namespace. What it opened there (a socket) stays of that namespace wherever it is used.
Python has `os.setns` from 3.12 only, hence ctypes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot enter the network namespace: {os.strerror(error)}", str(path))
    finally:
        os.close(descriptor)


def run_in(path: Path, work: Callable[[], T]) -> T:
    """The result of `work`, done inside the network namespace that `path` names.

    Raises OSError where there is no such namespace, and whatever `work` raises.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            _enter(path)
            results.append(work())
        except BaseException as error:  # handed to the caller, whose thread is another one
            failures.append(error)

    thread = threading.Thread(target=enter_and_work, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def is_namespace(path: Path) -> bool:
    """Whether `path` names a network namespace that is still there (a pin whose mount is gone is an empty file)."""
    try:
        run_in(path, lambda: None)
    except OSError:
        return False
    return True
