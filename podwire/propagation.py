"""What becomes of the objects that a deleted one owns: the policies, and the finalizers that stand for them.

A finalizer is a name in an object's metadata; while there is one, the object is not removed, only marked as being
deleted. Whoever put it there takes it off when its work is done.
"""

from __future__ import annotations

from typing import Final

# Deleted after their owner is gone.
BACKGROUND: Final = "Background"
# Deleted before their owner, which waits for those that have blockOwnerDeletion.
FOREGROUND: Final = "Foreground"
# Left, without their reference to the owner.
ORPHAN: Final = "Orphan"
POLICIES: Final = (BACKGROUND, FOREGROUND, ORPHAN)

FOREGROUND_FINALIZER: Final = "foregroundDeletion"
ORPHAN_FINALIZER: Final = "orphan"
