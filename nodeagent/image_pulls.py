"""Making sure that an image is on the node: policies, and one pull for all who want the same image at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nodeagent.containerd.client import ContainerdError, RuntimeUnavailable
from nodeagent.containerd.images import BadImage, Images
from nodeagent.containerd.references import InvalidReference, Reference, parse
from nodeagent.containers.errors import ImageError
from nodeagent.model import Image


class ImagePulls:
    """Pulls belong to `owner`: one goes on for the others when who began it gives up."""

    def __init__(self, images: Images, owner: asyncio.TaskGroup) -> None:
        self._images = images
        self._owner = owner
        self._under_way: dict[Reference, asyncio.Task[ContainerdError | None]] = {}

    async def ensure(self, text: str, policy: str, pulling: Callable[[], None]) -> Image:
        """The image that `text` names, pulled where `policy` (Always, IfNotPresent, Never) says so.

        `pulling` is called before the wait for a pull. Raises ImageError with Kubernetes' reason, RuntimeUnavailable.
        """
        try:
            reference = parse(text)
        except InvalidReference as error:
            raise ImageError("InvalidImageName", str(error)) from None
        if policy != "Always" and (image := await self._find(reference)) is not None:
            return image
        if policy == "Never":
            raise ImageError("ErrImageNeverPull", f"{reference} is not on the node, and its pull policy is Never")
        pulling()
        await self._pull(reference)
        image = await self._find(reference)
        if image is None:
            raise ImageError("ErrImagePull", f"{reference} was pulled, and was removed at once")
        return image

    async def _find(self, reference: Reference) -> Image | None:
        try:
            return await self._images.find(reference)
        except BadImage as error:
            raise ImageError("ErrImagePull", f"{reference}: {error}") from None

    async def _pull(self, reference: Reference) -> None:
        pull = self._under_way.get(reference)
        if pull is None:
            pull = self._owner.create_task(self._run_pull(reference), name=f"pull {reference}")
            self._under_way[reference] = pull
        failure = await asyncio.shield(pull)
        if isinstance(failure, RuntimeUnavailable):
            raise failure
        if failure is not None:
            raise ImageError("ErrImagePull", str(failure))

    async def _run_pull(self, reference: Reference) -> ContainerdError | None:
        """What came of it: a task that raises would end everything its owner owns."""
        try:
            await self._images.pull(reference)
        except ContainerdError as error:
            return error
        finally:
            del self._under_way[reference]
        return None
