"""The errors that entry points turn into a single line and a non-zero exit.

Anything else that is raised is a defect of the library and keeps its traceback.
"""


class InputError(ValueError):
    """A mistake in what the user gave: a path, a file, a setting. Exit status 2.

    The message is one line. It names the file or key and says what would be right.
    """


class RunError(RuntimeError):
    """A run that cannot go on: a loss that is no number, a full disk. Exit status 1.

    The message is one line. It says what happened, where, and what is safe.
    """
