"""The report, as the service gives it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from scuba_ray.errors import DataError
from scuba_ray.report.page import build
from scuba_ray.serve.failures import NotThere
from scuba_ray.serve.page import page


def asked(run: Path, path: str = "/", **headers: str) -> Response:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return page(Request({"type": "http", "method": "GET", "path": path, "headers": pairs}), str(run))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "report").mkdir()
    data = {"title": "t", "sets": [], "note": "<html lang=\"en\"> default-src 'none'; ", "run": {"config": {}}}
    (tmp_path / "report" / "index.html").write_text(build("A title", data), encoding="utf-8")
    return tmp_path


def test_the_page_is_the_report_with_a_marker_and_leave_to_ask(run: Path) -> None:
    report = (run / "report" / "index.html").read_text()
    served = bytes(asked(run).body).decode()
    assert '<html lang="en" data-service="v1/query">' in served
    assert "data-service=" not in report and "connect-src" not in report, "opened as a file it may ask nobody"
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', served)
    assert policy.startswith("default-src 'none'; connect-src 'self'; ")
    assert served.replace(' data-service="v1/query"', "", 1).replace(" connect-src 'self';", "", 1) == report


def test_below_a_prefix_the_endpoint_is_still_the_services(run: Path) -> None:
    for path, endpoint in (("/lab/", "v1/query"), ("/lab", "lab/v1/query"), ('/"><script>', "%22%3E%3Cscript%3E/v1/query")):
        assert f'data-service="{endpoint}"'.encode() in bytes(asked(run, path).body)


def test_a_browser_that_has_the_page_is_told_so(run: Path) -> None:
    first = asked(run)
    again = asked(run, if_none_match=first.headers["etag"])
    assert (again.status_code, bytes(again.body)) == (304, b"")
    (run / "report" / "index.html").write_text(build("Another title", {"title": "t", "run": {}}), encoding="utf-8")
    assert b"Another title" in bytes(asked(run, if_none_match=first.headers["etag"]).body)


def test_a_run_without_report_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="scuba report"):
        asked(tmp_path)


def test_a_client_is_told_no_places(run: Path) -> None:
    record = {
        "config": {
            "out": str(run),
            "run": {"x": 1},
            "subjects": [{"path": "/data/lab/subj01", "name": "subj01"}],
            "bank": "s3://b/x",
        },
        "digests": {"/data/lab/voxels.npy": "ab/cd", "text": "</script> and/or"},
        "dim": 8,
        "run": {"run": {"last": "/data/lab/z"}},
    }
    data = {
        "images": ["/9j/4AAQSkZJRg/lab"],
        "sets": [{"no_surface": 'its data set cannot be opened: "/data/lab/subj01" is "gone"'}],
        "thumbnails": {"none": "no folder of pictures at /data/lab/bank"},
        "run": record,
        "figures": [{"name": "certainty", "png": "/9j/ab/cd"}],
    }
    (run / "report" / "index.html").write_text(build("A title", data), encoding="utf-8")
    served = bytes(asked(run).body).decode()
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', served)
    told = json.loads(text)
    assert (told["images"], told["figures"]) == (data["images"], data["figures"]), "what only looks like a path stays"
    assert told["run"]["config"]["subjects"] == [{"path": "[a place on the server]", "name": "subj01"}]
    assert told["run"]["digests"] == {"[a place on the server]": "ab/cd", "text": "</script> and/or"}
    assert told["run"]["dim"] == 8 and "cannot be opened" in told["sets"][0]["no_surface"]
    for place in ("/data", str(run), "s3://"):
        assert place not in text.replace(data["images"][0], "")


def test_a_page_that_is_no_report_is_refused_in_words(run: Path) -> None:
    (run / "report" / "index.html").write_text("<html></html>")
    with pytest.raises(DataError, match="scuba report"):
        asked(run)
