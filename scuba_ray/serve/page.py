"""GET /: the run's report, told that a service gives it; its query box then shows, and its policy lets it ask this service.

The report says where data and models lie, for who made it; a client is told no places on the server.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from hashlib import sha256
from html import escape
from typing import Any
from urllib.parse import quote

import pyarrow.fs as pafs
from starlette.requests import Request
from starlette.responses import Response

from scuba_ray.errors import DataError
from scuba_ray.serve.failures import NotThere, without_places
from scuba_ray.tables import files

REPORT = "report/index.html"
_PAGE, _POLICY = b'<html lang="en">', b"default-src 'none'; "
_RECORD, _DATA_END = b',"run":', b"}</script>"
_REASON = re.compile(rb'("(?:none|no_surface)":)("(?:[^"\\]|\\.)*")')
"""Why there are no pictures or no surface: an error's words, which name files."""


def page(request: Request, run: str) -> Response:
    """Return the report of the run at `run`, or 304 if the browser has it. Reads files: call it in a thread.

    Raises
    ------
    NotThere
        If the run has no report.
    DataError
        If it is none that this version writes.
    """
    filesystem, place = files.filesystem(run)
    about = filesystem.get_file_info(f"{place}/{REPORT}")
    if about.type != pafs.FileType.File:
        raise NotThere("this run has no report yet: `scuba report RUN` writes it")
    whole, tag = _served(run, _endpoint(str(request.scope["path"])), (about.size, about.mtime_ns))
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(whole, media_type="text/html; charset=utf-8", headers=headers)


def _endpoint(path: str) -> str:
    """Where the query box asks, relative to the page: below any route_prefix, and behind a proxy that has one more."""
    last = path.rpartition("/")[2]
    return f"{quote(last)}/v1/query" if last else "v1/query"


@lru_cache(maxsize=2)
def _served(run: str, endpoint: str, written: tuple[int, int]) -> tuple[bytes, str]:
    """The page with its marker, and its tag; read again only when it was `written` again (size, time)."""
    report = files.read(run, REPORT)
    marked = _without_places(report, run).replace(_PAGE, f'<html lang="en" data-service="{escape(endpoint)}">'.encode(), 1)
    served = marked.replace(_POLICY, _POLICY + b"connect-src 'self'; ", 1)
    return served, f'"{sha256(served).hexdigest()[:32]}"'


def _without_places(report: bytes, run: str) -> bytes:
    """The report without paths and locations in the run's record and in reasons.

    The rest is not read: it is large, and base64 may look like a path. In the page's data the first entry of that name is the
    record; others lie within it.
    """
    report = _REASON.sub(lambda found: found[1] + _dumped(_scrubbed(json.loads(found[2]), run)), report)
    before, mark, after = report.partition(_RECORD)
    inside, end, page = after.partition(_DATA_END)
    if not (mark and end):
        raise DataError(
            "the report has no record of its run, as reports of this version have: `scuba report RUN` writes it again"
        )
    text = (inside + b"}").decode()
    record, length = json.JSONDecoder().raw_decode(text)
    return before + mark + _dumped(_scrubbed(record, run)) + text[length:-1].encode() + end + page


def _scrubbed(value: Any, run: str) -> Any:
    if isinstance(value, str):
        return without_places(value, [run])
    if isinstance(value, dict):
        return {without_places(key, [run]): _scrubbed(one, run) for key, one in value.items()}
    return [_scrubbed(one, run) for one in value] if isinstance(value, list) else value


def _dumped(value: Any) -> bytes:
    """As `report.page.build` writes its data."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c").encode()
