"""The models as deployments, on the tiny study: each answers what the run's tables hold, whoever asks at the same time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from ray import serve

from scuba_ray.actors.cluster import Cluster
from scuba_ray.actors.index import NEAREST
from scuba_ray.bank.index_build import build_index, like_voxels
from scuba_ray.bank.shards import open_bank
from scuba_ray.config import RunConfig, ServeConfig, make_config, serve_config
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.pipeline import run as complete_run
from scuba_ray.protocols import ImageRequest
from scuba_ray.serve.captioner import Captioner
from scuba_ray.serve.encoder import Encoder
from scuba_ray.serve.nearest import NearestImages
from scuba_ray.serve.opening import captioned_backbone
from scuba_ray.serve.options import deployment
from scuba_ray.serve.projector import Projector
from scuba_ray.serve.synthesizer import Synthesizer
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import projections_schema
from scuba_ray.tables.store import RunFolder
from tests.models.tiny_diffusion import write_diffusion
from tests.study import TinyStudy

KEY = "subj01/tiny"
SECONDS = 240.0
"""For one answer: a machine that many tests share may be slow."""


@dataclass(frozen=True)
class Service:
    """Deployments of a finished run, by handle."""

    run: RunFolder
    config: RunConfig
    settings: ServeConfig
    handles: dict[str, Any]

    def ask(self, name: str, method: str, *args: Any) -> Any:
        return self.send(name, method, *args)()

    def send(self, name: str, method: str, *args: Any) -> Callable[[], Any]:
        """Ask without waiting; what is returned waits."""
        response = getattr(self.handles[name], method).remote(*args)
        return lambda: response.result(timeout_s=SECONDS)


def settings_of(run: RunFolder, **changes: Any) -> ServeConfig:
    small = {"cpus": 0.1, "wait_seconds": 0.02}
    parts = dict.fromkeys(("encoder", "projector", "captioner", "nearest", "synthesis"), small)
    return serve_config({"run": run.location, **parts, "limits": {"pixels": 100_000, "decode_seconds": 60}, **changes})


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    cluster = Cluster(None)
    cluster.start()
    try:
        serve.start(proxy_location="Disabled")
        yield
    finally:
        serve.shutdown()
        cluster.stop()


@pytest.fixture(scope="module")
def service(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Service:
    folder = tmp_path_factory.mktemp("served")
    config = study.config(out=str(folder / "run"))
    run = complete_run(config)
    model = {"model": str(write_diffusion(folder / "diffusion")), "steps": 2, "batch": 3}
    config = config.model_copy(
        update={"synthesize": make_config({**study.settings(), "synthesize": {"diffusion": model}}).synthesize}
    )
    settings = settings_of(run)
    models: dict[str, type] = {
        "encoder": Encoder,
        "projector": Projector,
        "captioner": Captioner,
        "nearest": NearestImages,
        "synthesis": Synthesizer,
    }
    apps = [
        serve.RunTarget(deployment(model, getattr(settings, name)).bind(settings, config), name=name, route_prefix=None)
        for name, model in models.items()
    ]
    serve.run_many(apps)
    return Service(run, config, settings, {name: serve.get_app_handle(name) for name in models})


# --------------------------------------------------------------------------------------------------------------- encoder


def test_pictures_are_embedded_as_in_the_run_and_bad_ones_say_why(service: Service, study: TinyStudy) -> None:
    rows = service.run.read("embeddings", key=KEY)
    names = rows["stimulus_id"].to_pylist()[:11]
    files = [(study.folder / "subject" / "images" / f"{name}.png").read_bytes() for name in names]
    bomb = BytesIO()
    Image.new("1", (1000, 1000)).save(bomb, "PNG")
    sent = [files[0], b"no picture", *files[1:6], bomb.getvalue(), *files[6:]]
    found = service.ask("encoder", "images", sent)
    assert "not a readable picture" in found[1] and "1000 x 1000 pixels" in found[7]
    good = np.stack([one for one in found if not isinstance(one, str)])
    np.testing.assert_allclose(good, matrix(rows["embedding"])[:11].astype(np.float32), rtol=2e-3, atol=2e-3)
    alone = [service.ask("encoder", "images", [file])[0] for file in files[:3]]
    assert np.array_equal(np.stack(alone), good[:3]), "whom a picture is embedded with changes nothing, to the last bit"
    assert service.ask("encoder", "images", []) == []


def test_texts_are_embedded_the_same_alone_and_among_others(service: Service) -> None:
    texts = [f"a {word} dog on the street" for word in ("red", "big", "small", "wet")] * 3
    network = captioned_backbone(service.config).load("cpu")
    pending = [service.send("encoder", "texts", [text]) for text in texts]
    alone = np.concatenate([answer() for answer in pending])
    together = service.ask("encoder", "texts", texts)
    assert np.array_equal(alone, together) and together.dtype == np.float32
    np.testing.assert_allclose(together, network.embed_texts(texts).numpy(), rtol=1e-4, atol=1e-5)
    assert service.ask("encoder", "texts", []).shape == (0, network.dim)
    with pytest.raises(DataError, match="text 1 is no valid Unicode"):
        service.ask("encoder", "texts", ["fine", "\ud800"])


# ------------------------------------------------------------------------------------------------------------- projector


def weights(service: Service) -> tuple[list[int], np.ndarray]:
    rows = service.run.read("voxels", key=KEY, columns=["voxel_id", "status", "weight"])
    rows = rows.filter(pc.equal(rows["status"], "ok"))
    return rows["voxel_id"].to_pylist(), matrix(rows["weight"])


def expected(service: Service, voxels: list[int]) -> pa.Table:
    """The run's projections of these voxels, in this order, as the service gives them."""
    table = service.run.read("projections", key=KEY)
    parts = [table.filter(pc.equal(table["voxel_id"], voxel)) for voxel in voxels]
    rows = np.repeat(np.arange(len(voxels), dtype=np.int32), [len(part) for part in parts])
    columns = [name for name in table.column_names if name not in {"subject", "backbone", "voxel_id"}]
    return pa.concat_tables(parts).select(columns).add_column(0, pa.field("row", pa.int32()), pa.array(rows)).combine_chunks()


def test_projections_are_the_runs_to_the_last_bit(service: Service) -> None:
    voxels, weight_VD = weights(service)
    order = [4, 0, 7, 2, 2, 9, 1]
    wanted = expected(service, [voxels[place] for place in order])
    together = service.ask("projector", "project", weight_VD[order])
    assert together.schema.names == ["row", *[name for name in projections_schema(8).names if name in together.schema.names]]
    assert together.equals(wanted)
    assert set(together["partition"].to_pylist()) == {-1, 0, 1, 2, 3, 4} and set(together["certainty"].to_pylist()) == {"exact"}
    pending = [service.send("projector", "project", weight_VD[[place]]) for place in order]
    for row, answer in enumerate(pending):
        mine = wanted.filter(pc.equal(wanted["row"], row)).drop(["row"])
        assert answer().drop(["row"]).equals(mine.combine_chunks()), "asked alone, beside others, or with others: the same bits"
    assert service.ask("projector", "project", weight_VD[:0]).schema.equals(together.schema)


def test_weights_without_a_direction_fail_their_own_call_only(service: Service) -> None:
    voxels, weight_VD = weights(service)
    zero, endless = weight_VD[:3].copy(), weight_VD[:2].copy()
    zero[1], endless[0, 0] = 0, np.inf
    pending = [service.send("projector", "project", one) for one in (weight_VD[:2], zero, endless, weight_VD[:, :5])]
    assert pending[0]().equals(expected(service, voxels[:2]))
    for answer, words in zip(pending[1:], ("not in rows 1", "not in rows 0", "numbers each, got"), strict=True):
        with pytest.raises(DataError, match=words):
            answer()


def test_a_lost_holder_is_replaced_and_the_request_answered(service: Service) -> None:
    voxels, weight_VD = weights(service)
    (holder,) = processes("ray::Holder")
    os.kill(holder.pid, signal.SIGKILL)
    assert service.ask("projector", "project", weight_VD).equals(expected(service, voxels))
    assert [one.pid for one in processes("ray::Holder")] != [holder.pid]


# ------------------------------------------------------------------------------------------------------------- captioner


def test_captions_are_the_runs_whoever_asks_beside(service: Service) -> None:
    projected = service.run.read("projections", key=KEY, columns=["voxel_id", "partition", "embedding"])
    captions = service.run.read("captions", key=KEY, columns=["voxel_id", "partition", "candidates", "candidate_scores"])
    assert captions.select(["voxel_id", "partition"]).equals(projected.select(["voxel_id", "partition"]))
    embedding_VD, wanted = matrix(projected["embedding"]), captions["candidates"].to_pylist()
    together = service.ask("captioner", "captions", embedding_VD)
    assert [[beam.text for beam in beams] for beams in together] == wanted
    scores = [[beam.logprob for beam in beams] for beams in together]
    np.testing.assert_allclose(scores, captions["candidate_scores"].to_pylist(), rtol=1e-5)
    pending = [service.send("captioner", "captions", embedding_VD[[row]]) for row in range(12)]
    assert [[beam.text for beam in answer()[0]] for answer in pending] == wanted[:12]


def test_embeddings_that_cannot_be_captioned_fail_their_own_call_only(service: Service) -> None:
    embedding_VD = matrix(service.run.read("projections", key=KEY, columns=["embedding"])["embedding"])[:3]
    bad = embedding_VD.copy()
    bad[2, 3] = np.nan
    pending = [service.send("captioner", "captions", one) for one in (embedding_VD, bad)]
    assert len(pending[0]()) == 3
    with pytest.raises(DataError, match=r"embeddings must be finite.*not in rows 2"):
        pending[1]()
    with pytest.raises(DataError, match="3 embeddings need as many keys, got 1"):
        service.ask("captioner", "captions", embedding_VD, ["one"])


def test_captions_that_are_drawn_are_drawn_by_their_keys(service: Service) -> None:
    nucleus = service.config.caption.model_copy(update={"rule": "nucleus", "samples": 3})
    replica = Captioner(service.settings, service.config.model_copy(update={"caption": nucleus}))
    embedding_VD = matrix(service.run.read("projections", key=KEY, columns=["embedding"])["embedding"])[:1]

    def draw(*keys: str) -> list[list[str]]:
        return [sorted(beam.text for beam in beams) for beams in replica._captions([(embedding_VD[0], key) for key in keys])]

    one, other = draw("subj01/tiny/100/-1", "subj01/tiny/101/-1")
    assert one != other and draw("subj01/tiny/101/-1") == [other]


# --------------------------------------------------------------------------------------------------------------- nearest


def test_the_nearest_pictures_are_those_of_all_cosines(service: Service) -> None:
    bank = open_bank(service.run.location, captioned_backbone(service.config))
    bank_KD = np.concatenate([tile.embedding_KD for tile in bank.tiles(1000)]).astype(np.float32)
    bank_KD /= np.linalg.norm(bank_KD, axis=1, keepdims=True)
    ids = bank.ids(np.arange(len(bank_KD)))
    asked = [(np.random.default_rng(k).normal(size=(k, bank_KD.shape[1])).astype(np.float32), k) for k in (1, 2, 3, 40, 200)]
    pending = [service.send("nearest", "nearest", direction_QD, k) for direction_QD, k in asked]
    for (direction_QD, k), answer in zip(asked, pending, strict=True):
        table = answer()
        assert table.schema.equals(NEAREST)
        count = min(k, len(bank_KD))
        assert table["query"].to_pylist() == np.repeat(np.arange(len(direction_QD)), count).tolist()
        assert table["rank"].to_pylist() == list(range(count)) * len(direction_QD)
        cos_QK = direction_QD / np.linalg.norm(direction_QD, axis=1, keepdims=True) @ bank_KD.T
        np.testing.assert_allclose(table["cosine"], -np.sort(-cos_QK, axis=1)[:, :count].ravel(), atol=1e-5)
        assert table["image_id"].to_pylist() == ids[table["row"].to_numpy()].tolist()
        alone = service.ask("nearest", "nearest", direction_QD[-1:], k)
        last = table.filter(pc.equal(table["query"], len(direction_QD) - 1))
        assert alone.drop(["query"]).equals(last.drop(["query"]).combine_chunks())
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        service.ask("nearest", "nearest", asked[0][0], 0)
    with pytest.raises(DataError, match="not in rows 0"):
        service.ask("nearest", "nearest", asked[0][0] * 0, 1)


def test_a_bank_too_large_for_an_index_of_its_own_is_refused_in_words(service: Service) -> None:
    project = service.config.project.model_copy(update={"hold_gib": 1e-6})
    with pytest.raises(ConfigError, match="build one with `scuba bank index`"):
        NearestImages(service.settings, service.config.model_copy(update={"project": project}))


def test_the_banks_own_index_is_used_where_there_is_one(service: Service, tmp_path: Path) -> None:
    copytree(service.run.location, tmp_path / "run")
    copied = RunFolder(str(tmp_path / "run"))
    bank = open_bank(copied.location, captioned_backbone(service.config))
    build_index(bank)
    project = service.config.project.model_copy(update={"hold_gib": 1e-6})  # too little to make one
    replica = NearestImages(settings_of(copied), service.config.model_copy(update={"project": project}))
    unit_QD = like_voxels(bank, 3, seed=1)
    found = pa.concat_tables(replica._found([(unit_D, 4) for unit_D in unit_QD]))
    asked = service.ask("nearest", "nearest", unit_QD, 4)
    assert found["image_id"].equals(asked["image_id"])
    np.testing.assert_allclose(found["cosine"], asked["cosine"], atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- synthesis


def test_a_picture_is_the_same_alone_and_among_others(service: Service) -> None:
    requests = [ImageRequest(prompt, seed) for seed, prompt in enumerate(("a red dog", "food", "", "a street"))]
    pending = [service.send("synthesis", "images", [request]) for request in requests]
    alone = [answer()[0].pixels_HW3 for answer in pending]
    together = [made.pixels_HW3 for made in service.ask("synthesis", "images", requests)]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert not np.array_equal(alone[0], alone[1])
    with pytest.raises(ConfigError, match="no images by gradient"):
        service.ask("synthesis", "images", [ImageRequest("", 0, np.ones(8, np.float32))])


# ------------------------------------------------------------------------------------------------------------ all of them


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_said_in_the_applications_status(service: Service, tmp_path: Path) -> None:
    caption = service.config.caption.model_copy(update={"model": str(tmp_path / "gone")})
    config = service.config.model_copy(update={"caption": caption})
    target = deployment(Captioner, service.settings.captioner).bind(service.settings, config)
    with pytest.raises(RuntimeError, match="broken"):
        serve.run(target, name="broken", route_prefix=None)
    broken = serve.status().applications["broken"]
    assert broken.status == "DEPLOY_FAILED"
    said = broken.deployments["Captioner"].message
    assert "ConfigError" in said and f"{tmp_path / 'gone'}: no such directory" in said
    serve.delete("broken")


def test_devices_fit_what_replicas_reserve(service: Service) -> None:
    on_gpu = service.settings.model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match=r"captioner computes on cuda and reserves no GPU: set captioner.gpus"):
        Captioner(on_gpu, service.config)
    reserving = settings_of(service.run, captioner={"gpus": 1})
    with pytest.raises(ConfigError, match=r"captioner.gpus is 1 but device is cpu"):
        Captioner(reserving, service.config)


def test_decoders_and_holders_end_with_their_replica(service: Service) -> None:
    for name, helper in (("Encoder", "scuba_ray.datasets.decoder_child"), ("Projector", "ray::Holder")):
        (replica,) = processes(f"ray::ServeReplica:{name.lower()}:{name}")
        there = processes(helper)
        assert there
        os.kill(replica.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(there, timeout=60)
        assert not alive, (name, alive)


def processes(words: str) -> list[psutil.Process]:
    """Processes of the Ray that this test started whose command has these words."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(words in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
