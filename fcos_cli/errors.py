"""The toolkit's own exceptions: what was given, what is allowed, what to type next. Each carries its exit code."""

INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM, which are no mistakes: 128 + SIGINT, as shells have it."""


class FcosError(Exception):
    """A mistake the user can mend. Shown as one clear line (plus the hint), never as a traceback.

    Args:
        message: what was given and what is wrong with it.
        hint: what to do next, usually a command or a key to set.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(FcosError):
    """A command line that cannot be carried out."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe with unknown keys, wrong types or contradictions."""


class MethodError(FcosError):
    """A detection method's part that does not give what it has to: a mistake of the method, not of the user."""


class DataError(FcosError):
    """A data set, image or prediction file that cannot be used."""

    exit_code = 3


class SetupError(FcosError):
    """The machine lacks something: a device, a library, a download, disk space."""

    exit_code = 4


class WeightsError(FcosError):
    """Weights that cannot be read or do not fit the model."""

    exit_code = 4
