"""`scuba doctor`: whether this machine can run scuba_ray, and what to do about each thing that is in the way."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scuba_ray.config import BackboneConfig, CaptionConfig, DiffusionConfig, EngineConfig, TextRouteConfig
from scuba_ray.errors import ScubaError
from scuba_ray.registry import resolve

State = Literal["ok", "note", "problem"]

_MODULES = {"huggingface-hub": "huggingface_hub", "open-clip-torch": "open_clip", "pillow": "PIL", "pyyaml": "yaml"}
"""Modules that are not called like the package they come in."""
_DEMO = ("captioner", "clip", "diffusion", "judge")
"""Packaged models that the demo runs on."""
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_GIB = 2**30
_MEMORY, _DISK, _SHARED = 4 * _GIB, 2 * _GIB, _GIB // 2
"""Free bytes below which a note is given; Ray's object store is half a GiB of shared memory."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `problem` prevents running; `note` does not."""

    what: str
    state: State
    found: str
    advice: str = ""


def examine(address: str | None = None) -> list[Finding]:
    """Look at Python, packages, devices, room, packaged models and, if an address is given, at the Ray cluster there."""
    findings = [_python(), *_packages(), *_faiss()]
    if prevents_running(findings):
        return findings  # what follows needs the packages
    findings += [*_devices(), *_room(), *_models(), _offline()]
    if address is not None:
        findings += _cluster(address)
    return findings


def prevents_running(findings: list[Finding]) -> bool:
    """Whether any finding is a problem."""
    return any(finding.state == "problem" for finding in findings)


def show_findings(findings: list[Finding]) -> None:
    """Print the findings as a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    table = Table(box=None, header_style="bold")
    for heading in ("", "", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(state, Text(finding.what), Text(finding.found), Text(finding.advice))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _python() -> Finding:
    return Finding("Python", "ok", f"{sys.version.split()[0]}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    """Whether each package scuba_ray requires is there, new enough, and can be imported."""
    for line in metadata.requires("scuba-ray") or []:
        required = Requirement(line)
        if required.marker is not None and not required.marker.evaluate({"extra": ""}):
            continue
        yield _package(required)


def _package(required: Requirement) -> Finding:
    install = f"pip install '{required.name}{required.specifier}', or make setup"
    try:
        version = metadata.version(required.name)
    except metadata.PackageNotFoundError:
        return Finding(required.name, "problem", "not installed", install)
    if not required.specifier.contains(version, prereleases=True):
        return Finding(required.name, "problem", f"{version}, too old: {required.specifier} is needed", install)
    try:
        import_module(_MODULES.get(canonicalize_name(required.name), required.name))
    except Exception as error:  # a package may fail in any way while it is imported; the finding is that it does
        return Finding(required.name, "problem", f"{version}, does not import: {error}", f"install it again: {install}")
    return Finding(required.name, "ok", version)


def _faiss() -> Iterator[Finding]:
    """Look for faiss-cpu and faiss-gpu: they own the same module, so whichever came last has overwritten the other."""
    versions = {}
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(versions) > 1:
        advice = "both own the module faiss: pip uninstall faiss-cpu faiss-gpu, then install the one this machine needs"
        yield Finding("faiss", "problem", found, advice)
    elif not versions:
        yield Finding("faiss", "note", "not installed", "for look-ups in large banks: pip install 'scuba-ray[cpu]', or [gpu]")
    else:
        yield _faiss_import(found)


def _faiss_import(found: str) -> Finding:
    try:
        import_module("faiss")
    except Exception as error:  # as for the packages: any failure is the finding
        return Finding("faiss", "problem", f"{found}, does not import: {error}", "pip install --force-reinstall it")
    return Finding("faiss", "ok", found)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("device cpu", "ok", f"{_cores()} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        built = f"torch is built with CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield Finding("device cuda", "ok", f"none ({built})")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / _GIB
        yield Finding(f"device cuda:{index}", "ok", f"{properties.name}, {memory:.0f} GiB")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _room() -> Iterator[Finding]:
    """Free memory (the container's limit counts), shared memory for Ray, and disk where runs are written by default."""
    memory = _free_memory()
    if memory is not None:
        yield _enough("memory free", memory, _MEMORY, "close other programs, or lower engine.max_workers and the chunks")
    shared = Path("/dev/shm")
    if shared.is_dir():
        yield _enough("shared memory", shutil.disk_usage(shared).free, _SHARED, "docker run --shm-size=1g, or --engine local")
    yield _enough("disk free here", shutil.disk_usage(Path.cwd()).free, _DISK, "make room, or write elsewhere with --out")


def _enough(what: str, free: int, wanted: int, advice: str) -> Finding:
    found = f"{free / _GIB:.1f} GiB"
    return Finding(what, "ok", found) if free >= wanted else Finding(what, "note", found, advice)


def _free_memory() -> int | None:
    """Bytes that a new program may use; none where the system does not say."""
    limits = []
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    described = Path("/proc/meminfo")
    if described.exists():
        lines = dict(line.split(":", 1) for line in described.read_text().splitlines())
        limits = [int(lines["MemAvailable"].split()[0]) * 1024]  # counts what the disk cache would give back
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (most := (group / "memory.max").read_text().strip()) != "max":
        limits.append(int(most) - int((group / "memory.current").read_text()))
    return min(limits) if limits else None


def _models() -> Iterator[Finding]:
    """Whether the packaged phantom models are there and load."""
    from scuba_ray.models.clip import make_backbone
    from scuba_ray.models.clipcap import make_captioner
    from scuba_ray.models.diffusion import TextToImage

    root = Path(__file__).parent / "phantom" / "weights"
    folders = sorted(path for path in root.glob("*") if path.is_dir())
    for name in _DEMO:
        if not (root / name).is_dir():
            yield Finding(f"model {name}", "problem", f"not in {root}", "install scuba_ray again; the demo needs it")
    for folder in folders:
        what, model = f"model {folder.name}", f"phantom:{folder.name}"
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
        try:
            if (folder / "captioner.json").exists():
                make_captioner(CaptionConfig(model=model)).load("cpu")
            elif (folder / "model_index.json").exists():
                settings, route = DiffusionConfig(model=model), TextRouteConfig()
                TextToImage(settings, route, make_backbone(BackboneConfig(name="clip", model="phantom:clip"))).load("cpu")
            else:
                make_backbone(BackboneConfig(name=folder.name, model=model)).load("cpu")
        except (ScubaError, OSError, RuntimeError, ValueError, KeyError) as error:
            yield Finding(what, "problem", f"does not load: {error}", "install scuba_ray again; the demo needs it")
        else:
            yield Finding(what, "ok", f"loads, {size:.1f} MiB")


def _offline() -> Finding:
    on = [name for name in _OFFLINE if os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}]
    if on:
        return Finding("model hub", "ok", f"offline ({', '.join(on)}): only models on this machine")
    return Finding("model hub", "ok", "asked for models a configuration names (HF_HUB_OFFLINE=1 forbids it)")


def _cluster(address: str) -> Iterator[Finding]:
    """Whether a cluster lets us in, and whether its nodes run what is installed here."""
    engine = resolve("engine", "ray")(EngineConfig(name="ray", address=address))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(engine)
        except ScubaError as error:
            yield Finding("Ray cluster", "problem", str(error), "start one (ray start --head), or leave --address out")
            return
        yield Finding("Ray cluster", "ok", f"{address} answers")
        try:
            differences = engine.check_versions()
        except ScubaError as error:
            yield Finding("versions of nodes", "problem", str(error), "a run refuses this cluster until they agree")
            return
    if differences:
        advice = "give every node the same image or wheel; a run says this too, in its run.json"
        yield Finding("versions of nodes", "note", "; ".join(differences), advice)
    else:
        yield Finding("versions of nodes", "ok", "scuba_ray, Python, Ray and the packages agree")
