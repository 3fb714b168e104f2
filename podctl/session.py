"""What every command begins and ends with: the configuration, a connection, the namespace; errors and exit statuses."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from podctl.failures import CommandError, UsageError, explain
from podctl.naming import resources
from podctl.parsing import Globals
from podwire import config, errors
from podwire.client import Client
from podwire.kinds import Kind

_FAILED: Final = 1
_WRONG_USAGE: Final = 2
# What a shell reports of a command that SIGINT ended.
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Session:
    """A connection, and the namespace of names that come without one; `explicit` says that the user gave it."""

    client: Client
    settings: config.Config
    namespace: str
    explicit: bool = False

    def namespace_of(self, kind: Kind) -> str:
        """What requests about one object of `kind` name."""
        return self.namespace if kind.namespaced else ""

    async def fetch(self, kind: Kind, name: str, namespace: str | None = None) -> Any:
        """The object of that name, in the session's namespace unless told; NotFound says it in kubectl's words."""
        where = self.namespace_of(kind) if namespace is None else namespace
        try:
            return await self.client.kind(kind).get(name, namespace=where)
        except errors.NotFound:
            raise not_found(kind, name) from None


def not_found(kind: Kind, name: str) -> errors.NotFound:
    return errors.NotFound(f'{resources(kind)} "{name}" not found')


def run(options: Globals, command: Callable[[Session], Coroutine[Any, Any, int]], *, failed: int = _FAILED) -> NoReturn:
    """Runs a command that needs the control plane, and ends the process with its status; `failed`: that of an error."""

    async def connected() -> int:
        settings = config.load(options.config)
        namespace = options.namespace or settings.namespace
        async with Client.connect(settings.endpoints, tls=settings.tls) as client:
            try:
                return await command(Session(client, settings, namespace, explicit=options.namespace is not None))
            except errors.Unavailable as error:
                raise CommandError(
                    f"{error.message} (its address is from {settings.path}; podwire-lab status shows a lab's processes)"
                ) from None

    end(lambda: asyncio.run(connected()), failed=failed)


def end(command: Callable[[], int], *, failed: int = _FAILED) -> NoReturn:
    """Runs `command` and ends the process with its status; an error becomes a message on stderr."""
    try:
        try:
            status = command()
            sys.stdout.flush()
        except ExceptionGroup as group:
            # Of tasks that failed together one is enough to say.
            raise group.exceptions[0] from None
    except UsageError as error:
        status = complain(error, _WRONG_USAGE)
    except (errors.PodwireError, CommandError) as error:
        status = complain(error, failed)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    raise SystemExit(status)


def complain(error: Exception, status: int = _FAILED) -> int:
    """Says what went wrong, for a command that goes on; returns the status it then ends with."""
    sys.stdout.flush()
    print(explain(error), file=sys.stderr)
    return status
