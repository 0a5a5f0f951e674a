"""The features that the published optimiser trains on: training images encoded anew every epoch, jittered (METHOD section 2).

Only the Fit stage's workers come here, and only for `sgd` with `fit.jitter`; test images never do. Jitter is drawn from (seed,
epoch), so every voxel block and every worker sees the same features. A worker makes an epoch once and keeps it in a temporary
file, which its other voxel blocks and the split halves read:

    memory per worker   S * 3 * H * W bytes of pictures, 8 bits a value (1.4 GB for 9,000 images of 224 x 224)
    disk per worker     epochs * S * D * 4 bytes in the temporary folder (1.8 GB for 100 epochs of them, D = 512)
"""

from __future__ import annotations

import tempfile
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scuba_ray.config import EncodeConfig, FitConfig
from scuba_ray.core.sgd import jitter, orders
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Backbone, Scaling, SubjectDataset
from scuba_ray.stages.embedding import network_pass
from scuba_ray.stages.reading import decoded, decoder_for


def jitters(settings: FitConfig, scaling: Scaling) -> bool:
    """Whether a fit encodes its training images anew. Features of pixels (`standard`) are not the published ones."""
    return settings.method == "sgd" and settings.jitter and scaling == "unit"


class JitteredFeatures:
    """Unit embeddings of some pictures, jittered anew every epoch: call with the epoch.

    Parameters
    ----------
    network : Backbone
        Loaded.
    dataset : SubjectDataset
    rows_S : array of shape (S,)
        Which of `dataset.stimuli()`.
    settings : FitConfig
        A jitter batch is a step of the fit of all training images (the last may be short), with one shift for all of it.
    encode : EncodeConfig
        How pictures are read.
    seed : int
        The fit's: of the order of images, and with the epoch of the jitter.

    Raises
    ------
    ConfigError
        If the backbone does not normalise by a mean and deviation per channel.
    DataError
        If a picture cannot be read (any more).
    """

    def __init__(
        self,
        network: Backbone,
        dataset: SubjectDataset,
        rows_S: npt.NDArray[np.int64],
        *,
        settings: FitConfig,
        encode: EncodeConfig,
        seed: int,
    ) -> None:
        self._network, self._batch, self._seed, self._precision = network, settings.batch, seed, encode.precision
        self._mean_3, self._std_3 = _normalisation(network)
        stimuli = dataset.stimuli().take(rows_S)
        decode = decoder_for(network, encode)
        for row, picture in enumerate(decoded(dataset.images().read, stimuli["uri"].to_pylist(), decode, ahead=2 * encode.batch)):
            if isinstance(picture, PictureError):
                raise DataError(f"stimulus {stimuli['stimulus_id'][row]} has an embedding, but its picture is gone: {picture}")
            if row == 0:
                self._pixels_S3HW = torch.empty((len(rows_S), *picture.shape), dtype=torch.uint8)
            self._pixels_S3HW[row] = torch.from_numpy(picture)
        decode.close()
        self._orders = list(islice(orders(len(rows_S), seed), settings.epochs))
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as its worker, and has no name to leave behind
        self._kept: set[int] = set()

    def __call__(self, epoch: int) -> Tensor:
        """Return the features (S, D) of an epoch, float32, on the CPU."""
        images, dim = len(self._pixels_S3HW), self._network.dim
        size = images * dim * 4
        if epoch not in self._kept:
            X_SD = self._encoded(epoch)
            self._file.seek(epoch * size)
            self._file.write(X_SD.numpy().tobytes())
            self._file.flush()
            self._kept.add(epoch)
            return X_SD
        self._file.seek(epoch * size)
        return torch.frombuffer(bytearray(self._file.read(size)), dtype=torch.float32).reshape(images, dim)

    def _encoded(self, epoch: int) -> Tensor:
        """Jitter and encode every picture, a step's pictures together."""
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0]))
        X_SD = torch.empty(len(self._pixels_S3HW), self._network.dim)
        for start in range(0, len(X_SD), self._batch):
            rows_B = self._orders[epoch][start : start + self._batch]
            pixels_B3HW = self._network.normalise(self._pixels_S3HW[rows_B])
            pixels_B3HW = jitter(pixels_B3HW, generator, mean_3=self._mean_3, std_3=self._std_3)
            raw_BD = network_pass(pixels_B3HW, self._network, self._batch, self._precision)
            X_SD[rows_B] = unit_and_norm(raw_BD)[0].cpu()
        return X_SD


def _normalisation(network: Backbone) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3,) by which a backbone normalises, read off a black and a white pixel."""
    plain_23HW = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 1, 1)
    black_3, white_3 = network.normalise(plain_23HW)[:, :, 0, 0].cpu()
    if not bool((white_3 > black_3).all()):
        raise ConfigError(
            f"backbone {network.name} does not normalise pictures by a mean and a deviation, which fit.jitter needs: "
            "set fit.jitter to false"
        )
    std_3 = 1 / (white_3 - black_3)
    return -black_3 * std_3, std_3
