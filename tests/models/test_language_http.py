"""A language model behind HTTP: asked in bounds, patiently, nothing twice; every illness of the service has its sentence."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from scuba_ray.config import EndpointConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.language import Question, Refusal, ask_for_keywords
from scuba_ray.models.language_http import FOLDER, EndpointModel, language_counts
from tests.models.service import Illness, Service, body, content, dripping, serving, slow, status, times, together, where


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as one:
        yield one


def model(service: Service, folder: Path, **settings: Any) -> EndpointModel:
    quick = {"pause": 0.01, "retries": 2, "timeout": 5, "concurrency": 4}
    return EndpointModel(
        EndpointConfig.model_validate({"url": service.url, "model": "m", **quick, **settings}), str(folder)
    ).load("cpu")


def questions(*words: str) -> list[Question]:
    return [ask_for_keywords([f"a {word}", f"a {word} and a tree"], 3) for word in words]


def refusal(found: list[str] | Refusal) -> Refusal:
    assert isinstance(found, Refusal)
    return found


def test_answers_come_in_order_and_nothing_is_asked_twice(service: Service, tmp_path: Path) -> None:
    words = [f"{letter}thing" for letter in "abcdefghijkl"]
    service.illness = together(2)
    asked = model(service, tmp_path)
    assert asked.lists(questions(*words, "athing")) == [[word, "tree"] for word in [*words, "athing"]]
    assert service.requests == 12, "equal questions are asked once"
    assert 1 < service.most_at_once <= 4
    assert model(service, tmp_path).lists(questions(*words)) == [[word, "tree"] for word in words]
    assert service.requests == 12
    counts = language_counts(str(tmp_path))
    assert (counts["asked"], counts["cached"], counts["failed"], counts["retries"]) == (12, 12, 0, 0)
    assert (counts["prompt_tokens"], counts["completion_tokens"]) == (120, 60)


def test_another_model_or_prompt_is_another_question(service: Service, tmp_path: Path) -> None:
    model(service, tmp_path).lists(questions("fox"))
    model(service, tmp_path, model="other").lists(questions("fox"))
    model(service, tmp_path, max_tokens=99).lists(questions("fox"))
    assert service.requests == 3


def test_a_damaged_file_of_the_cache_is_asked_for_again(service: Service, tmp_path: Path) -> None:
    model(service, tmp_path).lists(questions("fox"))
    (kept,) = (tmp_path / FOLDER).glob("*.json")
    for damage in (b"{", b"[]", b'{"list": 3}', b'{"list": []}', b"\xff\xfe"):
        kept.write_bytes(damage)
        assert model(service, tmp_path).lists(questions("fox")) == [["fox", "tree"]]
    assert service.requests == 6


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(service: Service, tmp_path: Path, code: int) -> None:
    service.illness = times(2, status(code))
    assert model(service, tmp_path).lists(questions("fox")) == [["fox", "tree"]]
    assert service.requests == 3 and language_counts(str(tmp_path))["retries"] == 2


@pytest.mark.parametrize("how", ["seconds", "date"])
def test_a_service_that_says_when_to_come_back_is_taken_at_its_word(service: Service, tmp_path: Path, how: str) -> None:
    after = "1" if how == "seconds" else formatdate(time.time() + 2, usegmt=True)
    service.illness = times(1, status(429, Retry_After=after))
    began = time.monotonic()
    assert model(service, tmp_path).lists(questions("fox")) == [["fox", "tree"]]
    assert 0.9 <= time.monotonic() - began < 4


def test_but_not_for_hours(service: Service, tmp_path: Path) -> None:
    service.illness = status(429, Retry_After="7200")
    began = time.monotonic()
    why = refusal(model(service, tmp_path).lists(questions("fox"))[0])
    assert "429" in why.reason and "7200 s" in why.reason and why.retry
    assert service.requests == 1 and time.monotonic() - began < 2


ILLNESSES: dict[str, tuple[Illness, str]] = {
    "too slow": (slow(2.0), r"no answer within 1 s \(3 tries\)"),
    "a byte now and then": (dripping(2.0), r"no answer within 1 s \(3 tries\)"),
    "always 429": (status(429), r"answered 429 .* \(3 tries\)"),
    "always 500": (status(500), r"answered 500 .* \(3 tries\)"),
    "refused": (status(400), r"answered 400"),
    "moved": (status(302, Location="http://127.0.0.1:9/v1"), r"answered 302"),
    "no JSON": (body(b"<html>busy</html>"), r"no chat completion .*<html>busy"),
    "half of JSON": (body(b'{"choices": [{"mess'), r"no chat completion"),
    "another document": (body(b'{"result": 1}'), r"no chat completion \(KeyError"),
    "a list": (body(b"[1, 2]"), r"no chat completion \(TypeError"),
    "no choices": (body(b'{"choices": []}'), r"no chat completion \(IndexError"),
    "no text": (content(None), r"has no text: content is null"),
    "text in pieces": (content([{"type": "text"}]), r"has no text"),
    "endless": (body(b" " * (1 << 21)), r"longer than 1048576 bytes"),
    "prose": (content("I see many dogs."), r"not JSON with a list 'keywords'"),
    "malformed JSON": (content('{"keywords": ["dog", '), r"not JSON with a list 'keywords'"),
    "another field": (content('{"words": ["dog"]}'), r"not JSON with a list 'keywords'"),
    "no list": (content('{"keywords": "dog"}'), r"must be a list of texts"),
    "numbers": (content('{"keywords": [1, 2]}'), r"must be a list of texts"),
    "an empty list": (content('{"keywords": []}'), r"list of keywords in the answer is empty"),
    "empty words": (content('{"keywords": [" ", "", "."]}'), r"list of keywords in the answer is empty"),
}


@pytest.mark.parametrize("name", ILLNESSES)
def test_every_illness_has_its_sentence_costs_its_question_alone_and_heals(service: Service, tmp_path: Path, name: str) -> None:
    illness, reason = ILLNESSES[name]
    service.illness = where("fox", illness)
    asked = model(service, tmp_path, timeout=1 if "within 1 s" in reason else 30)
    fox, bus = asked.lists(questions("fox", "bus"))
    why = refusal(fox)
    assert why.retry
    assert re.search(reason, why.reason), why.reason
    assert bus == ["bus", "tree"]
    assert language_counts(str(tmp_path))["failed"] == 1
    service.illness = lambda handler, prompt: False
    assert model(service, tmp_path).lists(questions("fox", "bus")) == [["fox", "tree"], ["bus", "tree"]]
    assert len(service.answered) == 2, "what was answered is not asked again"


def test_a_service_that_is_down_costs_some_questions_and_not_all(service: Service, tmp_path: Path) -> None:
    service.illness = status(503)
    asked = model(service, tmp_path, concurrency=2)
    words = [f"thing{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    found = [refusal(one) for one in asked.lists(questions(*words))]
    assert all(one.retry for one in found)
    assert service.requests <= 5 * 3, "3 questions fail, 2 more may be in flight, each is sent 3 times"
    assert "not asked, since the service failed" in found[-1].reason and "503" in found[-1].reason
    before = service.requests
    asked.lists(questions("other", "others"))
    assert service.requests == before + 1, "one try says that it is still down"
    service.illness = lambda handler, prompt: False
    assert asked.lists(questions(*words)) == [["tree", word] if word > "tree" else [word, "tree"] for word in words]
    assert language_counts(str(tmp_path))["not_asked"] >= 21


def test_nobody_there(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    settings = EndpointConfig(url=url, model="m", pause=0.01, retries=1)
    why = refusal(EndpointModel(settings, str(tmp_path)).load("cpu").lists(questions("fox"))[0])
    assert "cannot be reached: ConnectionRefusedError" in why.reason and why.retry


def test_a_wrong_key_is_no_reason_to_ask_on(service: Service, tmp_path: Path) -> None:
    service.illness = status(401)
    found = model(service, tmp_path, concurrency=1).lists(questions(*"abcdefgh"))
    assert "401" in refusal(found[0]).reason and service.requests == 3


def test_the_key_comes_from_the_environment_and_stays_there(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="OUR_KEY is not set"):
        model(service, tmp_path, api_key_env="OUR_KEY")
    for unfit in ("secret\n", "sécret"):
        monkeypatch.setenv("OUR_KEY", unfit)
        with pytest.raises(ConfigError, match="OUR_KEY holds a line break, or a character") as refused:
            model(service, tmp_path, api_key_env="OUR_KEY")
        assert "cret" not in str(refused.value), "the key is nobody's to read"
    monkeypatch.setenv("OUR_KEY", "s3cret")
    asked = model(service, tmp_path, api_key_env="OUR_KEY")
    asked.lists(questions("fox"))
    assert service.keys == {"Bearer s3cret"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"s3cret" not in written and "s3cret" not in json.dumps(dict(asked.fingerprint())) + repr(vars(asked))


def test_where_it_is_asked_is_no_part_of_a_result(service: Service, tmp_path: Path) -> None:
    one, two = model(service, tmp_path), model(service, tmp_path, url="http://elsewhere/v1", timeout=9)
    assert one.fingerprint() == two.fingerprint() != model(service, tmp_path, model="other").fingerprint()
