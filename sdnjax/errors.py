"""The one error class that entry points turn into a single line and a non-zero exit."""


class InputError(ValueError):
    """A mistake in what the user gave: a path, a file, a setting.

    The message is one line. It names the file or key and says what would be right.
    Entry points print it without a traceback and exit with status 2; anything else that
    is raised is a defect of the library and keeps its traceback.
    """
