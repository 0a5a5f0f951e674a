"""A language model behind an OpenAI-compatible service (`POST /chat/completions`): bounded, patient, asked nothing twice.

Answers that were right are kept in the run folder by the hash of what was asked, so that a run that goes on after a fault asks
for what is missing only. A question that fails costs its voxel alone. Where the service fails one question after another, the
rest of them is not asked: a service that is down must not cost an hour of pauses.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scuba_ray.config import EndpointConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.chat_request import NoAnswerError, ask
from scuba_ray.models.language import Question, Refusal, read_list
from scuba_ray.tables import files

FOLDER = "cache/language"
"""Of the run: an answer per file, and in `counts` what asking took."""
COUNTED = ("asked", "cached", "retries", "failed", "not_asked", "prompt_tokens", "completion_tokens")
"""Questions the service answered; found in the cache; requests repeated; questions without a usable answer; questions spared a
service that was down; tokens as far as the service reports them."""
_FAILED_IN_A_ROW = 3
"""Questions without an answer after which a service counts as down; at least as many as are in flight at once."""


class EndpointModel:
    """A model behind a service, for the run at `location`.

    Raises
    ------
    ConfigError
        If the settings name an environment variable for the key and it holds none.
    """

    def __init__(self, settings: EndpointConfig, location: str) -> None:
        self._settings = settings
        self._location = location
        _ = self._key

    def fingerprint(self) -> Mapping[str, Any]:
        """The model and how it is asked. Not where: the address, key and patience change no answer."""
        return {"model": self._settings.model, "max_tokens": self._settings.max_tokens, "temperature": 0}

    def load(self, device: str) -> EndpointModel:
        """Nothing to load; but the key must be known to this worker, too."""
        _ = self._key
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._failed = 0
        self._last = ""
        return self

    @property
    def _key(self) -> str | None:
        """Read from the environment whenever it is needed, and kept nowhere."""
        name = self._settings.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "")
        if not key or not key.isascii() or not key.isprintable():  # http.client's own error would show the key
            wrong = "holds a line break, or a character that no header may hold" if key else "is not set"
            raise ConfigError(
                f"lavca.endpoint.api_key_env: the environment variable {name} {wrong}; it must hold the service's key "
                "on every machine that runs workers"
            )
        return key

    def lists(self, questions: Sequence[Question]) -> list[list[str] | Refusal]:
        """Ask all questions, `concurrency` at a time, equal ones once. Memory: the answers, and as many of 1 MiB at most."""
        distinct = list(dict.fromkeys(questions))
        found: dict[Question, list[str] | Refusal] = {}
        if self._down and distinct:  # one try says whether it is back
            found[distinct[0]] = self._list(distinct[0], retries=0)
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            rest = [question for question in distinct if question not in found]
            found.update(zip(rest, pool.map(self._list, rest), strict=True))
        counts, self._counts = self._counts, Counter()
        files.write(self._location, f"{FOLDER}/counts/{uuid.uuid4().hex}.json", json.dumps(counts).encode())
        return [found[question] for question in questions]

    @property
    def _down(self) -> bool:
        return self._failed >= max(_FAILED_IN_A_ROW, self._settings.concurrency)

    def _list(self, question: Question, retries: int | None = None) -> list[str] | Refusal:
        settings = self._settings
        messages = [{"role": "user", "content": question.text}]
        body = {"model": settings.model, "messages": messages, "temperature": 0, "max_tokens": settings.max_tokens}
        name = f"{FOLDER}/{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}.json"
        kept = self._kept(name, question.field)
        if kept is not None:
            self._count(cached=1)
            return kept
        if self._down and retries is None:
            self._count(not_asked=1)
            return Refusal(f"not asked, since the service failed {self._failed} questions in a row; the last: {self._last}", True)
        try:
            reply = ask(settings, json.dumps(body).encode(), self._key, settings.retries if retries is None else retries)
            self._count(asked=1, retries=reply.retries, **reply.tokens)
            self._failed = 0
            entries = read_list(reply.text, question.field)
        except NoAnswerError as error:
            with self._lock:
                self._failed, self._last = (self._failed + 1 if error.down else self._failed), str(error)
            self._count(failed=1, retries=error.retries)
            return Refusal(str(error), True)
        except DataError as error:
            self._count(failed=1)
            return Refusal(str(error), True)
        answer = {"asked": body, "list": entries, "tokens": reply.tokens}
        files.write(self._location, name, json.dumps(answer, indent=1).encode())
        return entries

    def _kept(self, name: str, field: str) -> list[str] | None:
        """The list in a file of the cache; none if there is no such file or it is damaged: then it is asked for again."""
        try:
            return read_list(json.dumps({field: json.loads(files.read(self._location, name))["list"]}), field)
        except (FileNotFoundError, ValueError, KeyError, TypeError, DataError):
            return None

    def _count(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)


def language_counts(location: str) -> dict[str, int]:
    """What asking has taken in the run at `location`, over all its drivers and workers: see `COUNTED`; all 0 if nobody asked."""
    total: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for name in sorted(files.names(location, f"{FOLDER}/counts")):
        total.update(json.loads(files.read(location, f"{FOLDER}/counts/{name}")))
    return dict(total)
