"""Banks of natural images: the pictures of a source listed, scanned, admitted and embedded, collection by collection.

A folder may hold many collections (and what several backbones made of them). The source of one may grow: its new files become a
further portion, and only they are computed. `scuba bank build` and a run's own bank go the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.bank.listings import Listing, collection_name, counted, files_of, listed, record
from scuba_ray.bank.shards import TABLE, BankFolder, collection_of, open_bank, unit_key
from scuba_ray.config import BackboneConfig, EncodeConfig, EngineConfig, SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import Backbone, ImageSource, Resources, SubjectDataset
from scuba_ray.records import steps_in
from scuba_ray.stages.admit import ADMIT_CHUNK, Admit
from scuba_ray.stages.encode import EncodeBank, EncodeStimuli
from scuba_ray.stages.scan import Scan, scan_chunk
from scuba_ray.stages.study import model_resources
from scuba_ray.tables import files, manifest
from scuba_ray.tables.progress import Listener, Result
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder

_HERE = 1 << 30
"""Bytes on a local disk up to which the driver scans by itself: workers take longer to start than it takes to read them."""
_NAMED = 3
"""Files that an error names."""


class Bank(NamedTuple):
    """What weights are projected on, and what made it; of one that is only planned, how large it will be."""

    folder: BankFolder
    fingerprint: str
    rows: int
    shards: int


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """How the pictures of a collection are admitted and embedded; the same for all of a folder's collections, or not."""

    backbone: Backbone
    encode: EncodeConfig
    engine: EngineConfig
    device: str
    duplicates: Literal["drop", "keep"] = "drop"
    similar: float | None = None
    """Cosine with a test image from which on a picture is left out; none leaves all in."""
    test: tuple[Result, ...] = ()
    """Embeddings of the subjects whose test images those are."""


def build_bank(
    *,
    images: str,
    backbone: BackboneConfig,
    out: str,
    source: str = "folder",
    collection: str | None = None,
    prefix: str = "",
    duplicates: Literal["drop", "keep"] = "drop",
    similar: float | None = None,
    subjects: Sequence[SubjectConfig] = (),
    encode: EncodeConfig | None = None,
    engine: EngineConfig | None = None,
    device: str = "cpu",
    verify: bool = False,
    listen: Listener | None = None,
) -> BankFolder:
    """Build a bank in a folder of its own, or extend the one there; shards that are there are not built again.

    Parameters
    ----------
    images, source : str
        Where the pictures are, and in what they are kept.
    collection : str, optional
        What they are called in the bank; the last part of `images` if it is not given.
    prefix : str
        Put before the ids of these pictures, where another collection has the same ones.
    duplicates : str
        `drop` quarantines pictures whose bytes came before, here or in an earlier collection.
    similar, subjects
        Pictures whose embedding has at least this cosine with that of one of the subjects' test images are left out.
    verify : bool
        Hold the content of every finished part against its checksum, also where a table has more than 4 GiB.

    Raises
    ------
    ConfigError
        If paths, backbone or device cannot work, files of the collection have changed or gone, or ids are taken.
    DataError, WorkerError
        If it failed, or nothing could be embedded; finished shards are kept and running again resumes.
    """
    encode, engine = encode or EncodeConfig(), engine or EngineConfig()
    if (similar is None) != (not subjects):
        raise ConfigError("leaving out pictures like test images takes both: a subject with a data set, and the cosine (similar)")
    images = files.normalise(images)
    _check_apart(images, files.normalise(out))
    network, pictures = make_backbone(backbone), make_images(source, images)
    model_resources(device, engine)  # a device that is not there is said before anything is written
    datasets = {subject.name: make_dataset(subject) for subject in subjects}
    wanted = Listing(collection_name(collection, images), images, source, prefix, pictures.fingerprint(), ())
    found = pictures.files()
    folder = RunFolder(out, verify=verify)
    with folder.lock():
        folder.claim({})
        portions = _portions(folder.location, wanted, found)
        collections = folder.read_run_json().get("collections", {})
        # another cut would embed again what is there
        chunk = collections.get(wanted.collection, {}).get("encode", {}).get("chunk", encode.chunk)
        kept = (
            None if chunk == encode.chunk else f"{wanted.collection} keeps its {chunk} pictures per shard: it was begun with them"
        )
        encode = encode.model_copy(update={"chunk": chunk})
        about: dict[str, Any] = {"images": images, "source": source, "prefix": prefix, "duplicates": duplicates}
        about |= {"similar": similar, "backbone": backbone.model_dump(), "encode": encode.model_dump(), "device": device}
        with steps_in(folder, engine, {"collections": {**collections, wanted.collection: about}}, listen) as steps:
            steps.warn(*([kept] if kept else []))
            how = Embedding(
                backbone=network, encode=encode, engine=engine, device=device, duplicates=duplicates, similar=similar, test=()
            )
            how = replace(how, test=tuple(_embed_test_images(steps, datasets[one.name], one, how) for one in subjects))
            for portion in portions:
                embed_collection(steps, portion, how)
            steps.close_record(with_earlier=True)
    return open_bank(folder.location, network)


def _embed_test_images(steps: Steps, dataset: SubjectDataset, subject: SubjectConfig, how: Embedding) -> Result:
    """A subject's test images in the bank's space, to leave out pictures like them."""
    stage = EncodeStimuli(
        subject=subject,
        backbone=how.backbone,
        settings=how.encode,
        resources=model_resources(how.device, how.engine),
        preparation=Resources(cpus=how.engine.cpus_per_decoder),
        device=how.device,
        split="test",
    )
    key, rows = f"{subject.name}/{how.backbone.name}", dataset.stimuli().num_rows
    return steps.complete(stage, key=key, rows=rows, chunk=how.encode.chunk, inputs=[dataset.fingerprint()])


def embed_collection(steps: Steps, listing: Listing, how: Embedding) -> Result:
    """Complete the steps of one recorded collection: scan its files, admit its pictures, embed them.

    A portion that a source has grown by may come to nothing; a collection as a whole may not.

    Raises
    ------
    ConfigError
        If an earlier collection's files are not all scanned, or ids are taken.
    DataError, WorkerError
        If a step failed or gave nothing.
    """
    run, key, grown = steps.run, listing.collection, listing.collection != listing.name
    scanned = manifest.load(run.location, "pictures")
    waiting = {one.collection for one in listed(run.location)} - set(scanned)
    for name in listing.earlier:
        if name in waiting:
            raise ConfigError(
                f"collection {name} was begun in {run.location} before {key}, and its files are not scanned to the end: run its "
                f"command again, or give it up by deleting the record of its files in {run.location}/listings"
            )
    resources = model_resources(how.device, how.engine)
    scan = Scan(location=run.location, listing=listing, resources=Resources(cpus=how.engine.cpus_per_worker))
    here = files.is_local(listing.images) and listing.bytes < _HERE
    pictures = steps.complete(
        scan,
        key=key,
        rows=listing.files,
        chunk=scan_chunk(listing),
        inputs=[listing.fingerprint],
        here=here,
        may_be_empty=grown,
    )
    earlier = tuple(name for name in listing.earlier if name in scanned)
    embedded = manifest.load(run.location, TABLE)
    imported = tuple(one for one in listing.imported if one in embedded)
    admit = Admit(run=run, collection=key, earlier=earlier, imported=imported, duplicates=how.duplicates, resources=Resources())
    inputs = [pictures.fingerprint, *(scanned[name].fingerprint for name in earlier)]
    inputs += [embedded[one].fingerprint for one in imported]
    admitted = steps.complete(admit, key=key, rows=pictures.rows, chunk=ADMIT_CHUNK, inputs=inputs, here=True, may_be_empty=grown)
    stage = EncodeBank(
        run=run,
        collection=key,
        images=listing.images,
        source=listing.source,
        backbone=how.backbone,
        settings=how.encode,
        resources=resources,
        preparation=Resources(cpus=how.engine.cpus_per_decoder),
        device=how.device,
        test=tuple(result.key for result in how.test),
        similar=how.similar,
    )
    return steps.complete(
        stage,
        key=unit_key(how.backbone.name, key),
        rows=admitted.rows,
        chunk=how.encode.chunk,
        inputs=[admitted.fingerprint, *(result.fingerprint for result in how.test)],
        may_be_empty=grown,
    )


def only_collection(location: str, wanted: Listing, pictures: ImageSource, *, keep: bool = True) -> Listing:
    """Record the files of a run's own bank, in place of what was recorded before: subjects claim a run, not it.

    Unless they are to be kept, they are only counted.

    Raises
    ------
    ConfigError
        If the run lies among the pictures.
    """
    _check_apart(files.normalise(wanted.images), location)
    for known in listed(location):
        if replace(known, files=0, bytes=0, digest="") == wanted:
            return known
    return record(location, wanted, pictures.files()) if keep else counted(wanted, pictures.files())


def _check_apart(images: str, out: str) -> None:
    """Raise ConfigError if what is written would be taken for further pictures (tables of them) the next time."""
    if f"{out}/".startswith(f"{images}/"):
        raise ConfigError(f"--out {out} lies inside the folder of the pictures, {images}; give it a place of its own")


def _portions(location: str, wanted: Listing, found: pa.Table) -> list[Listing]:
    """The records of the collection `wanted`, whose source holds the files `found` now: those there are, and one of new files.

    Raises
    ------
    ConfigError
        If files that were recorded are gone or have changed, or the ids of finished pictures would change.
    """
    known = listed(location)
    mine = [one for one in known if one.name == wanted.collection]
    earlier = tuple(one.collection for one in known)
    imported = tuple(sorted(key for key in manifest.load(location, TABLE) if collection_of(key) not in earlier))
    if wanted.collection in map(collection_of, imported):
        raise _refusal(location, wanted, "its embeddings were imported")
    if not mine:
        return [record(location, replace(wanted, earlier=earlier, imported=imported), found)]
    have = pa.concat_tables([files_of(location, one.collection) for one in mine])
    size = found["bytes"].take(pc.index_in(have["name"], value_set=found["name"]))
    changed = have["name"].filter(pc.invert(pc.fill_null(pc.equal(size, have["bytes"]), False)))
    new = found.filter(pc.invert(pc.is_in(found["name"], value_set=have["name"])))
    if len(changed):
        named = ", ".join(changed.slice(0, _NAMED).to_pylist())
        raise _refusal(location, wanted, f"{len(changed):,} of its {len(have):,} files are gone or have another size ({named})")
    if not len(new) and mine[-1].content != wanted.content:
        raise _refusal(location, wanted, "its files have the same names and sizes as they had, and other contents")
    mine = [_updated(location, one, wanted) for one in mine]
    if len(new):
        name = f"{wanted.collection}+{len(mine)}"
        mine.append(record(location, replace(wanted, collection=name, earlier=earlier, imported=imported), new))
    return mine


def _updated(location: str, known: Listing, wanted: Listing) -> Listing:
    """A record with the source's place, kind and prefix as they are given now."""
    now = replace(known, images=wanted.images, source=wanted.source, prefix=wanted.prefix)
    if now == known:
        return known
    finished = {collection_of(key) for key in manifest.load(location, TABLE)}
    if now.fingerprint != known.fingerprint and known.collection in finished:
        raise _refusal(location, wanted, f"it was built with --source {known.source} and --prefix '{known.prefix}'")
    return record(location, now, files_of(location, known.collection))


def _refusal(location: str, wanted: Listing, what: str) -> ConfigError:
    return ConfigError(
        f"{location} holds a collection {wanted.collection}, and {what}; give this source another name with --collection, or "
        "build in another folder with --out"
    )
