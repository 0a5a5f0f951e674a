"""The application: a finished run, opened and checked, and the deployments that answer for it.

For `scuba serve`, and for Ray's own `serve run` and `serve deploy` with the import path `scuba_ray.serve.app:app_builder`, whose
`args` are the settings of `ServeConfig`. `serve build` takes no builders: give it a module of your own with
`app = app_builder({...})`.
"""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from scuba_ray.config import RunConfig, ServeConfig, make_config, serve_config
from scuba_ray.errors import ConfigError
from scuba_ray.tables import files
from scuba_ray.tables.store import RunFolder


def app_builder(args: dict[str, Any]) -> Application:
    """Check the settings, open the run they name, and bind its deployments. Nothing is loaded yet.

    Parameters
    ----------
    args : dict
        Settings of `ServeConfig`, as in YAML: `{run: /runs/subj01, captioner: {max_replicas: 4}}`. A relative path is taken from
        where the builder runs.

    Returns
    -------
    Application
        One run. Several are several applications, each with a `route_prefix` of its own.

    Raises
    ------
    ConfigError
        If a setting is unknown or wrong, the run is not complete or has no captions, its models or bank are not there, or the
        devices do not fit what replicas reserve.
    DataError
        If the run's record is damaged.
    """
    settings, config = open_run(args)
    from scuba_ray.serve.captioner import Captioner  # torch and transformers, after everything that is told without
    from scuba_ray.serve.catalogue import Captioned
    from scuba_ray.serve.encoder import Encoder
    from scuba_ray.serve.ingress import Ingress, layers
    from scuba_ray.serve.nearest import NearestImages
    from scuba_ray.serve.opening import bank_of, captioned_backbone, device_of
    from scuba_ray.serve.options import deployment
    from scuba_ray.serve.projector import Projector
    from scuba_ray.serve.subjects import Subjects
    from scuba_ray.serve.synthesizer import Synthesizer

    reader = captioned_backbone(config)
    captioned = Captioned(reader.name, reader.dim, bank_of(settings, config, reader).rows)
    models: dict[str, type] = {"encoder": Encoder, "projector": Projector, "captioner": Captioner, "nearest": NearestImages}
    models |= {"synthesis": Synthesizer} if settings.synthesizer else {}
    bound = {}
    for name, model in models.items():
        replicas = getattr(settings, name)
        if name != "nearest":  # it searches on the CPU unless it reserves a GPU, whatever the models do
            device_of(settings, config, replicas, name)
        bound[name] = deployment(model, replicas).bind(settings, config)
    subjects = deployment(Subjects, settings.subjects).bind(settings, reader.name)
    ingress = deployment(Ingress, settings.ingress)
    application: Application = ingress.bind(layers(settings), settings, config, captioned, subjects=subjects, **bound)
    return application


def open_run(args: dict[str, Any]) -> tuple[ServeConfig, RunConfig]:
    """The settings of a service, with locations made absolute, and the configuration of the complete run they name.

    Raises
    ------
    ConfigError
        If a setting is unknown or wrong, there is no run, it is not complete, or a subject of its configuration has no captions.
    DataError
        If the run's record is damaged.
    """
    settings = serve_config(args)
    root = None if settings.root is None else files.normalise(settings.root)
    settings = settings.model_copy(update={"run": files.normalise(settings.run), "root": root})
    folder = RunFolder(settings.run)
    record = folder.read_run_json()
    if "config" not in record:
        raise ConfigError(f"run: {settings.run} holds no run; make one with `scuba run CONFIG.yaml --out {settings.run}`")
    again = f"finish it with `scuba run CONFIG.yaml --out {settings.run}`, which goes on where it stopped"
    if not record.get("complete"):
        raise ConfigError(f"run: {settings.run} is not complete; {again}")
    config = make_config(record["config"])
    there = set.intersection(*(set(folder.keys(table)) for table in ("voxels", "projections", "captions")))
    names = {one.name: {f"{one.name}/{backbone.name}" for backbone in config.backbones} for one in config.subjects}
    if lacking := [name for name, keys in names.items() if not keys & there]:
        raise ConfigError(f"run: {settings.run} has no finished captions of {', '.join(lacking)}; {again}")
    if settings.synthesizer and config.synthesize is None:
        raise ConfigError(
            "synthesizer is true, but the run makes no images: it has no group `synthesize`; set synthesizer: false"
        )
    return settings, config
