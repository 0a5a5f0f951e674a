"""As much of S3 as reading takes, over a folder, on this machine: listing, sizes, ranges, keys asked for; and it can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "brains"
_DATE = "Mon, 23 Nov 2026 10:00:00 GMT"


@dataclass
class S3:
    """What the server has and does."""

    folder: Path
    uri: str = ""
    failing: str = ""
    """Data of files whose path contains this are answered by an error,"""
    failures: int = 10**9
    """so many times."""
    requests: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Method, path, first byte and bytes of each answer."""

    def fetched(self, name: str) -> list[int]:
        """Bytes of each answer with data of the files of a name."""
        return [size for method, path, _, size in self.requests if method == "GET" and path.endswith(name)]


@contextmanager
def served(folder: Path) -> Iterator[S3]:
    """Serve a folder as a bucket to whoever signs; the URI's options lead here."""
    s3 = S3(folder)

    class Handler(_Handler):
        store = s3

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    s3.uri = f"s3://{BUCKET}/data?region=eu-west-1&scheme=http&endpoint_override=127.0.0.1:{server.server_address[1]}"
    try:
        yield s3
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    store: S3
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = 1 << 20, True

    def log_message(self, format: str, *args: object) -> None:
        """Not to stderr."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        parts = urlsplit(self.path)
        place = unquote(parts.path).removeprefix(f"/{BUCKET}").strip("/").removeprefix("data").strip("/")
        path = self.store.folder / place
        if "Authorization" not in self.headers:
            return self._send(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", body)
        if "list-type" in parts.query:
            return self._send(200, self._listing(parse_qs(parts.query)), body)
        if not path.is_file():
            code, data = (
                (200, b"") if unquote(parts.path).strip("/") == BUCKET else (404, b"<Error><Code>NoSuchKey</Code></Error>")
            )
            return self._send(code, data, body)
        if body and self.store.failing and self.store.failing in place and self.store.failures:
            self.store.failures -= 1
            return self._send(400, b"<Error><Code>InternalTrouble</Code><Message>try later</Message></Error>", body)
        data, asked = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2]), len(data) - 1)) if asked else (0, len(data) - 1)
        self.store.requests.append((self.command, place, first, last + 1 - first if body else 0))
        headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"} if asked else {}
        self._send(206 if asked else 200, data[first : last + 1], body, headers)

    def _listing(self, query: dict[str, list[str]]) -> bytes:
        """Keys below a prefix; with a delimiter those directly below, and folders."""
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        found, folders = [], set()
        for path in sorted(self.store.folder.rglob("*")):
            key = f"data/{path.relative_to(self.store.folder)}"
            if path.is_file() and key.startswith(prefix):
                rest = key[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                else:
                    found.append(
                        f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size>"
                        "<LastModified>2026-11-23T10:00:00Z</LastModified></Contents>"
                    )
        found += [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders)]
        count = f"<KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated><Name>{BUCKET}</Name>"
        return f"<ListBucketResult>{count}<Prefix>{escape(prefix)}</Prefix>{''.join(found)}</ListBucketResult>".encode()

    def _send(self, code: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), "Last-Modified": _DATE, "ETag": '"1"', **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)
