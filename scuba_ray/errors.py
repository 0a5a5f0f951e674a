"""What can go wrong, in words for the reader: what was got, what was wanted, what to do.

The command line turns these into exit codes: `ConfigError` is a usage error (2), every other `ScubaError` a failed run (1).
"""

from __future__ import annotations


class ScubaError(Exception):
    """Base of every error raised on purpose. `str(error)` is one paragraph a user can act on."""


class ConfigError(ScubaError):
    """A setting, a path in a configuration or a combination of models cannot work. Nothing has been started."""


class DataError(ScubaError):
    """A file or an array is not what its layout promises."""


class ContractError(ScubaError):
    """A table handed from one step to the next lacks a column or has another type: a bug, ours or a plugin's."""


class WorkerError(ScubaError):
    """A step failed on the workers. What was finished is kept; running again resumes."""
