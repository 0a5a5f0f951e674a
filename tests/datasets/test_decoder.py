"""Decoders in processes of their own: the same pixels, and a crash, a hang or a dead parent costs nothing else."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scuba_ray.datasets.decoder import Decoder
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.pictures import Framed
from tests.datasets.faulty import Faulty, alive, pids, wait_gone


def png(colour: str | tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def decoder(marks: Path, children: int = 1, seconds: float = 20.0, max_pixels: int = 10_000) -> Decoder:
    return Decoder(Faulty(str(marks)), max_pixels=max_pixels, seconds=seconds, children=children)


def test_pixels_are_those_of_this_process() -> None:
    rng = np.random.default_rng(0)
    framed = Framed(224, 224)
    decode = Decoder(framed, max_pixels=10**8, seconds=20, children=2)
    for size in ((400, 500), (31, 77), (224, 224)):
        image = Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
        sink = io.BytesIO()
        image.save(sink, "PNG")
        got = decode(sink.getvalue())
        assert got.dtype == np.uint8 and got.flags.writeable
        np.testing.assert_array_equal(got, framed(image))
    decode.close()


def test_what_is_no_picture_has_the_reason_and_the_kind(tmp_path: Path) -> None:
    decode = decoder(tmp_path)
    for data, kind, words in [
        (b"", "unreadable", "empty file"),
        (b"no picture", "unreadable", "known format"),
        (png("white")[:-30], "unreadable", "not a readable picture"),
        (png("white", (200, 200)), "too large", "200 x 200 pixels, more than max_pixels"),
        (png("yellow"), "unreadable", "cannot be preprocessed: ValueError: yellow"),
    ]:
        with pytest.raises(PictureError, match=words) as caught:
            decode(data)
        assert caught.value.kind == kind and isinstance(caught.value, DataError)
    with pytest.raises(MemoryError, match="not enough memory"):
        decode(png("cyan"))
    assert decode(png("white")).shape == (3, 8, 8)
    assert len(pids(tmp_path)) == 1, "one process said all of it"


def test_a_crash_costs_that_picture_only(tmp_path: Path) -> None:
    decode = decoder(tmp_path)
    before = decode(png("white"))
    with pytest.raises(PictureError, match=r"crashed the decoder \(signal SIGSEGV\)") as caught:
        decode(png("red"))
    assert caught.value.kind == "crashed"
    np.testing.assert_array_equal(decode(png("white")), before)
    assert len(pids(tmp_path)) == 2


def test_a_decoder_that_was_killed_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    assert decoder(tmp_path)(png("blue")).shape == (3, 8, 8)
    assert (tmp_path / "crashed").exists()


def test_a_hang_is_ended_in_time(tmp_path: Path) -> None:
    decode = decoder(tmp_path, seconds=2.5)
    decode(png("white"))
    began = time.monotonic()
    with pytest.raises(PictureError, match=r"took longer than 2\.5 s to decode") as caught:
        decode(png((0, 255, 0)))
    assert caught.value.kind == "too slow" and time.monotonic() - began < 60
    assert decode(png("white")).shape == (3, 8, 8)


def test_what_a_library_prints_is_no_answer(tmp_path: Path) -> None:
    decode = decoder(tmp_path)
    assert decode(png("magenta")).shape == decode(png("white")).shape == (3, 8, 8)


def test_many_threads_share_a_few_processes(tmp_path: Path) -> None:
    decode = decoder(tmp_path, children=2)
    colours = [(10, index, 10) for index in range(60)]
    with ThreadPoolExecutor(8) as threads:
        pixels = list(threads.map(decode, [png(colour) for colour in colours]))
    assert [tuple(one[:, 0, 0].tolist()) for one in pixels] == colours
    assert 1 <= len(pids(tmp_path)) <= 2


def test_children_start_when_needed_and_end_when_closed_or_forgotten(tmp_path: Path) -> None:
    decode = pickle.loads(pickle.dumps(decoder(tmp_path)))
    assert pids(tmp_path) == []
    decode(png("white"))
    (first,) = pids(tmp_path)
    assert alive(first) and os.getsid(first) == first
    decode.close()
    assert wait_gone(first)
    decode = decoder(tmp_path)
    decode(png("white"))
    (second,) = set(pids(tmp_path)) - {first}
    del decode
    assert wait_gone(second)


@pytest.mark.parametrize("colour", ["white", (0, 255, 0)])
def test_a_killed_parent_leaves_no_child_behind(tmp_path: Path, colour: str | tuple[int, int, int]) -> None:
    """A script without `if __name__ == "__main__"`, killed between pictures or while its decoder hangs."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom tests.datasets.test_decoder import decoder, png\n"
        "decode = decoder(Path(sys.argv[1]), seconds=2)\ndecode(png('white'))\nprint('started', flush=True)\n"
        f"decode(png({colour!r}))\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert parent.stdout is not None and parent.stdout.readline() == b"started\n"
    (child,) = pids(tmp_path)
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert wait_gone(child)


def test_preprocessing_of_a_plugin_is_found_where_this_process_finds_it_or_said_not_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_plugin.py").write_text(
        "import numpy as np\nclass Plain:\n    def __call__(self, image): return np.asarray(image).transpose(2, 0, 1)\n"
    )
    with monkeypatch.context() as found:
        found.syspath_prepend(tmp_path)
        plain = import_module("a_plugin").Plain()
        assert Decoder(plain, max_pixels=1000, seconds=20, children=1)(png("white")).shape == (3, 20, 20)
    decode = Decoder(plain, max_pixels=1000, seconds=20, children=1)
    with pytest.raises(ConfigError, match=r"a decoder process does not start: ModuleNotFoundError: No module named 'a_plugin'"):
        decode(png("white"))


def test_a_child_starts_fast() -> None:
    code = (
        "import sys, scuba_ray.datasets.decoder_child; print([n for n in ('torch', 'pyarrow', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
