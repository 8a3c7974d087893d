"""The one exception that users are meant to read."""


class LeanconvError(Exception):
    """Bad input or an unusable environment, told in one line: what is wrong and what to do.

    Commands print it as ``error: …`` on standard error and exit with status 2.
    """
