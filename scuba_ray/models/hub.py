"""Checkpoints that open_clip downloads: once per machine, whatever number of workers asks for them at once.

`HF_HUB_OFFLINE=1` is honoured for all of them, also those that open_clip gets from an address outside the hub.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scuba_ray.errors import ConfigError


def fetched(model: str, tag: Mapping[str, Any]) -> Path:
    """Return the checkpoint file of one of open_clip's pretrained tags, downloaded where this machine has not got it.

    One process of a machine looks at a time: the others wait, and find it in the cache.

    Raises
    ------
    ConfigError
        If it is not here and cannot be downloaded, or must not be; it says what is missing and how to put it there.
    """
    import open_clip
    from filelock import FileLock
    from huggingface_hub import constants

    where = tag.get("hf_hub") or tag.get("url", "")
    name = hashlib.sha256(where.encode()).hexdigest()[:16]
    offline = bool(constants.HF_HUB_OFFLINE)
    with FileLock(Path(tempfile.gettempdir()) / f"scuba_ray-{os.getuid()}-{name}.lock"):
        if offline and not tag.get("hf_hub"):
            copy = Path("~/.cache/clip").expanduser() / where.rpartition("/")[2]
            if not copy.is_file():
                raise ConfigError(
                    f"{model}: its checkpoint is not on this machine, and HF_HUB_OFFLINE is set: put {where} at {copy}"
                )
        try:
            return Path(open_clip.download_pretrained(dict(tag)))
        except (OSError, RuntimeError) as error:
            why = "HF_HUB_OFFLINE is set" if offline else f"cannot be downloaded ({error})"
            repository = where.rstrip("/") if where.endswith("/") else where.rpartition("/")[0]
            raise ConfigError(
                f"{model}: its checkpoint is not on this machine, and {why}. Where there is a network, run `hf download "
                f"{repository}` and copy the cache here (HF_HOME, {constants.HF_HOME}); or put open_clip_config.json and "
                "open_clip_model.safetensors into a directory and use local-dir:PATH"
            ) from error
