"""Why a sandbox, an image or a container did not come about: a reason as Kubernetes calls it, and a message.

The reason becomes the waiting container's state and the event's name. All of them may pass: the pod's worker retries.
"""

from __future__ import annotations


class PodError(Exception):
    """The base of them."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class SandboxError(PodError):
    """FailedCreatePodSandBox."""

    def __init__(self, message: str) -> None:
        super().__init__("FailedCreatePodSandBox", message)


class ImageError(PodError):
    """ErrImagePull, ErrImageNeverPull, InvalidImageName or ImageInspectError."""


class ContainerError(PodError):
    """CreateContainerConfigError (the pod must change), CreateContainerError or RunContainerError."""
