"""One chat completion over HTTP: sent, repeated where that may help, read within bounds, and held against the protocol.

Repeated, after pauses that double and vary, are requests that got 408, 425, 429 or 5xx, no answer in time, or a broken
connection. A service that says when to come back (Retry-After) is taken at its word, up to `longest_pause`. Redirections are not
followed: they would carry the key elsewhere.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import IO, Any

from scuba_ray.config import EndpointConfig
from scuba_ray.errors import DataError

LARGEST = 1 << 20
"""Bytes of an answer that are read at most."""
_BLOCK = 1 << 14
_AGAIN = frozenset({408, 425, 429})
_NOBODY = frozenset({401, 403, 404, 405, 410})
"""Answers that no question would fare better with: a wrong key or address."""


@dataclass(frozen=True)
class Reply:
    """What the model said, what it took."""

    text: str
    retries: int
    tokens: dict[str, int] = field(default_factory=dict)


class NoAnswerError(Exception):
    """The service gave no answer. `down`: others would get none either."""

    def __init__(self, reason: str, *, down: bool, retries: int) -> None:
        super().__init__(reason)
        self.down, self.retries = down, retries


class _AgainError(Exception):
    """Worth another try, perhaps after `seconds`."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def ask(settings: EndpointConfig, body: bytes, key: str | None, retries: int) -> Reply:
    """Send one request, repeated at most `retries` times.

    Raises
    ------
    NoAnswerError
        If the service did not answer, or refused.
    DataError
        If its answer is not what the protocol promises.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{settings.url.rstrip('/')}/chat/completions", body, headers, method="POST")
    for attempt in range(retries + 1):
        try:
            return _reply(_send(request, settings.timeout), attempt)
        except urllib.error.HTTPError as error:
            raise NoAnswerError(_refused(error), down=error.code in _NOBODY, retries=attempt) from error
        except _AgainError as error:
            pause = settings.pause * 2**attempt * random.uniform(0.5, 1.5)
            pause = min(pause, settings.longest_pause) if error.seconds is None else error.seconds + pause / 2
            if attempt == retries:
                raise NoAnswerError(f"{error} ({retries + 1} tries)", down=True, retries=attempt) from error
            if error.seconds is not None and error.seconds > settings.longest_pause:
                reason = f"{error}; it asks to come back in {error.seconds:.0f} s, more than longest_pause"
                raise NoAnswerError(reason, down=True, retries=attempt) from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _send(request: urllib.request.Request, timeout: float) -> bytes:
    """Bytes of the answer. Raises HTTPError where repeating is of no use, _AgainError where it may be."""
    ends = time.monotonic() + timeout
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            return _read(response, ends)
    except urllib.error.HTTPError as error:
        if error.code in _AGAIN or error.code >= 500:
            raise _AgainError(_refused(error), _seconds(error.headers.get("Retry-After"))) from error
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        words = f"no answer within {timeout:g} s" if isinstance(reason, TimeoutError) else f"{type(reason).__name__}: {reason}"
        raise _AgainError(f"the service cannot be reached: {words}") from error


def _read(response: IO[bytes], ends: float) -> bytes:
    """A body, within its bounds: a service that sends a byte now and then is too slow, too."""
    data = b""
    while block := response.read1(_BLOCK):  # type: ignore[attr-defined]
        data += block
        if len(data) > LARGEST:
            raise DataError(f"the service's answer is longer than {LARGEST} bytes")
        if time.monotonic() > ends:
            raise TimeoutError
    return data


def _reply(data: bytes, attempt: int) -> Reply:
    """What a chat completion says. Raises DataError if it is none."""
    try:
        document = json.loads(data)
        text = document["choices"][0]["message"]["content"]
        usage = document.get("usage") or {}
        tokens = {name: int(usage[name]) for name in ("prompt_tokens", "completion_tokens") if name in usage}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"the service's answer is no chat completion ({type(error).__name__}: {error}): {data[:80]!r}") from error
    if not isinstance(text, str):
        raise DataError(f"the service's answer has no text: content is {json.dumps(text)[:80]}")
    return Reply(text, attempt, tokens)


def _refused(error: urllib.error.HTTPError) -> str:
    return f"the service answered {error.code} {error.reason}"


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds: a number, or a date (RFC 9110); none if it is neither."""
    if header is None:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None
