"""The asyncio client of the API: what programs import is here."""

from podwire.client.client import Client
from podwire.client.connection import Fence, Settings, Tls
from podwire.client.informer import Informer
from podwire.client.kind_client import Applied, KindClient, Listed
from podwire.client.pods import ExecSession, PodClient
from podwire.client.retrying import RetryPolicy
from podwire.client.watching import ADDED, BOOKMARK, DELETED, INITIAL_EVENTS_END, MODIFIED, WatchEvent
from podwire.client.work_queue import ShutDown, WorkQueue

__all__ = [
    "ADDED",
    "BOOKMARK",
    "DELETED",
    "INITIAL_EVENTS_END",
    "MODIFIED",
    "Applied",
    "Client",
    "ExecSession",
    "Fence",
    "Informer",
    "KindClient",
    "Listed",
    "PodClient",
    "RetryPolicy",
    "Settings",
    "ShutDown",
    "Tls",
    "WatchEvent",
    "WorkQueue",
]
