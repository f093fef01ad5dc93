"""What an operator's command can end with, by what its exit code says.

OpsError       1: it could not be done; the message says what to do about it
UsageRefused   2: it was asked for in a way that cannot work
"""


class OpsError(Exception):
    exit_code = 1


class UsageRefused(OpsError):
    exit_code = 2
