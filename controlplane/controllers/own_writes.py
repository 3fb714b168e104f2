"""An informer's picture with this process' own writes laid over it, until the informer has caught up with them.

A controller that acts on a picture without its own last write acts twice: it creates a second pod for the one that is
missing, or steps on its own update. What the API answered to a write is newer than what the informer shows, and by the
revision it is known when that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from podwire.client import Informer
from podwire.keys import Object, key_of

T = TypeVar("T", bound=Object)


class OwnWrites(Generic[T]):
    def __init__(self, informer: Informer[T]) -> None:
        self._informer = informer
        self._epoch = ""
        self._written: dict[str, T] = {}
        self._deleted: dict[str, str] = {}

    def wrote(self, obj: T) -> None:
        """`obj` is what the API answered to a create or an update."""
        self._settle()
        self._written[key_of(obj)] = obj

    def deleted(self, obj: T) -> None:
        """`obj` was deleted, or its deletion was begun."""
        self._settle()
        self._deleted[key_of(obj)] = obj.metadata.uid

    def get(self, key: str) -> T | None:
        seen = self._informer.get(key)
        return next(iter(self.over([seen] if seen is not None else [], lambda obj: key_of(obj) == key)), None)

    def over(self, seen: Iterable[T], belongs: Callable[[T], bool]) -> list[T]:
        """`seen`, some of the informer's objects, as they are by now; `belongs` says which others would be among them.

        What was deleted is left out from the moment the deletion was begun.
        """
        self._settle()
        merged = {key_of(obj): obj for obj in seen}
        for key, obj in self._written.items():
            if belongs(obj):
                merged[key] = obj
            else:
                merged.pop(key, None)
        for key, uid in self._deleted.items():
            if key in merged and merged[key].metadata.uid == uid:
                del merged[key]
        return list(merged.values())

    def _settle(self) -> None:
        """Forgets what the informer shows by now."""
        if self._informer.epoch != self._epoch:
            # A restored store has a history of its own: revisions of the old one say nothing.
            self._epoch = self._informer.epoch
            self._written.clear()
            self._deleted.clear()
        reached = int(self._informer.resource_version or 0)
        for key, obj in list(self._written.items()):
            if int(obj.metadata.resource_version) <= reached:
                del self._written[key]
        for key, uid in list(self._deleted.items()):
            seen = self._informer.get(key)
            gone = seen is None or seen.metadata.uid != uid or seen.metadata.HasField("deletion_timestamp")
            # One that the informer has yet to see come is not gone.
            if gone and key not in self._written:
                del self._deleted[key]
