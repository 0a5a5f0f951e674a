"""Banks built in a folder of their own, for any number of runs."""

from __future__ import annotations

from scuba_ray.bank.shards import BankFolder, open_bank
from scuba_ray.config import BackboneConfig, EncodeConfig, EngineConfig
from scuba_ray.datasets import make_images
from scuba_ray.models.clip import make_backbone
from scuba_ray.records import steps_in
from scuba_ray.stages.encode import EncodeBank
from scuba_ray.stages.study import model_resources
from scuba_ray.tables import files
from scuba_ray.tables.progress import Listener
from scuba_ray.tables.store import RunFolder


def build_bank(
    *,
    images: str,
    backbone: BackboneConfig,
    out: str,
    source: str = "folder",
    encode: EncodeConfig | None = None,
    engine: EngineConfig | None = None,
    device: str = "cpu",
    listen: Listener | None = None,
) -> BankFolder:
    """Build a bank in a folder of its own, for any number of runs; shards that are there are not built again.

    Raises
    ------
    ConfigError
        If paths, backbone or device cannot work, or `out` holds a bank of other pictures.
    DataError, WorkerError
        If it failed; finished shards are kept and running again resumes.
    """
    encode, engine = encode or EncodeConfig(), engine or EngineConfig()
    images = files.normalise(images)
    network, pictures = make_backbone(backbone), make_images(source, images)
    stage = EncodeBank(
        images=images, source=source, backbone=network, settings=encode, resources=model_resources(device, engine), device=device
    )
    folder = RunFolder(out)
    made_of = pictures.fingerprint()
    about = {
        "bank": {
            "images": images,
            "source": source,
            "backbone": backbone.model_dump(),
            "encode": encode.model_dump(),
            "device": device,
        }
    }
    with folder.lock():
        folder.claim({"bank": made_of})
        with steps_in(folder, engine, about, listen) as steps:
            rows = pictures.listing().num_rows
            steps.complete(stage, key=network.name, rows=rows, chunk=encode.chunk, inputs=[made_of])
            steps.close_record()
    return open_bank(folder.location, network)
