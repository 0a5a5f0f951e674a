"""Words for an end that leaves none: Ray ends the process of a driver that has lost its cluster, at once and in silence.

A small process waits beside this one. If this one ends without having dismissed it, it says on stderr what must have happened.
"""

from __future__ import annotations

import atexit
import contextlib
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import IO

WORDS = (
    "error: this process ended at once: the head of the Ray cluster or its node on this machine was lost (Ray then ends its "
    "drivers), or the process was killed. What a run had finished is kept; running it again resumes."
)
_WAIT = 'read -r dismissed || echo "$1" >&2'


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """While in the context, have somebody tell what happened should this process end there. Ctrl-C does not reach them."""
    command = ["sh", "-c", _WAIT, "sh", WORDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as waiting:
        assert waiting.stdin is not None
        dismiss = partial(_dismiss, waiting.stdin)
        atexit.register(dismiss)  # a process that ends in good order while it is connected needs no words
        try:
            yield
        finally:
            dismiss()
            atexit.unregister(dismiss)


def _dismiss(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # somebody ended them, which does no harm
        if not pipe.closed:
            pipe.write(b"dismissed\n")
            pipe.close()
