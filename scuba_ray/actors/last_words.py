"""Words for an end that leaves none: Ray ends the process of a driver that has lost its cluster, at once and in silence.

A small process waits beside this one. If this one ends without having dismissed it, it says on stderr what must have happened.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

WORDS = (
    "error: this process ended in mid-run: the head of the Ray cluster or its node on this machine was lost (Ray then ends its "
    "drivers), or the process was killed. What was finished is kept; running again resumes."
)
_WAIT = 'read -r dismissed || echo "$1" >&2'


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """While in the context, have somebody tell what happened should this process end there. Ctrl-C does not reach them."""
    command = ["sh", "-c", _WAIT, "sh", WORDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as waiting:
        try:
            yield
        finally:
            assert waiting.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # somebody ended them, which does no harm
                waiting.stdin.write(b"dismissed\n")
                waiting.stdin.flush()
