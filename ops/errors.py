"""Errors of an operator's command, by its exit code.

OpsError       1: the command failed; the message says what to do about it
UsageRefused   2: the command cannot work with these arguments
"""


class OpsError(Exception):
    """A command failed. The message is one line for the operator, with the next step."""

    exit_code = 1


class UsageRefused(OpsError):
    """A command cannot work with its arguments."""

    exit_code = 2
