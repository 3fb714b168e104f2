"""What goes wrong with a lab; each message says what to look at or change."""


class LabError(RuntimeError):
    """Something about a lab did not work."""


class PlanError(LabError):
    """What was asked for cannot be a lab, or is no part of it."""


class ArchiveError(LabError):
    """A file that was to be loaded is not an image."""


class MissingProgram(LabError):
    """Something that images are made from is not on this machine."""


class RegistryError(LabError):
    """The registry refused something."""
