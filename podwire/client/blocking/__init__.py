"""The client for programs without asyncio: the same methods, which wait. What programs import is here.

One thread a client runs the asyncio client's loop; these classes hand it calls and hand back what comes of them, so
that every behaviour (retries, reconnecting watches, errors) is written once.
"""

from podwire.client.blocking.client import Client
from podwire.client.blocking.informer import Informer
from podwire.client.blocking.kind_client import ExecSession, KindClient, PodClient
from podwire.client.blocking.loop import Closed

__all__ = ["Client", "Closed", "ExecSession", "Informer", "KindClient", "PodClient"]
