"""Words that somebody else says for a process that ends at once; none for one that ends in good order."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scuba_ray.actors.last_words import WORDS

SCRIPT = """
import os, signal, sys
from scuba_ray.actors.last_words import last_words
context = last_words()
context.__enter__()
{ends}
"""


@pytest.mark.parametrize(
    ("ends", "code", "words"),
    [
        ("os._exit(1)", 1, f"{WORDS}\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, f"{WORDS}\n"),
        ("context.__exit__(None, None, None); os._exit(1)", 1, ""),
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
    ],
)
def test_words_are_for_an_end_without_any(ends: str, code: int, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(ends=ends)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", words)
