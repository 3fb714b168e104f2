"""What the plugin answers when it cannot do what it was asked, in the terms of the CNI specification."""

from __future__ import annotations

from typing import Final

INCOMPATIBLE_VERSION: Final = 1
UNSUPPORTED_FIELD: Final = 2
UNKNOWN_CONTAINER: Final = 3
INVALID_ENVIRONMENT: Final = 4
IO_FAILURE: Final = 5
DECODING_FAILURE: Final = 6
INVALID_CONFIGURATION: Final = 7
TRY_AGAIN_LATER: Final = 11
NOT_AVAILABLE: Final = 50
"""Of STATUS: ADD cannot work now."""
INTERFACE_EXISTS: Final = 100
NO_ADDRESS_LEFT: Final = 101
KERNEL_REFUSED: Final = 102
NOT_AS_ADDED: Final = 103
"""Of CHECK: what ADD made is gone or was changed."""


class CniError(Exception):
    """A failure with a code of the CNI specification (1 to 99) or of the plugin (100 and up)."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.code = code
        self.message = message
        self.details = details

    def to_json(self, version: str) -> dict[str, object]:
        """The error object of the specification (section "Error")."""
        answer: dict[str, object] = {"cniVersion": version, "code": self.code, "msg": self.message}
        if self.details:
            answer["details"] = self.details
        return answer
