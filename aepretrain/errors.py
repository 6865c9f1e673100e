"""The two errors that a user sees, each as one line."""


class UsageError(ValueError):
    """An option has a value that is not allowed. The command ends with exit code 2."""


class Failure(RuntimeError):
    """Something that a user can cause went wrong. The command ends with exit code 1."""
