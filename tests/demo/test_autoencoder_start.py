"""The autoencoder starts as good as the principal components that it is set to."""

from __future__ import annotations

import numpy as np
import torch

from demo.data import make_shard
from demo.model import make_vae
from demo.training.pca import start_from_pca
from demo.training.train_vae import pictures, quality


def test_the_untrained_autoencoder_already_reconstructs() -> None:
    torch.manual_seed(0)
    shard = make_shard(1, 3, 6)
    vae = make_vae()
    picture, weight = pictures(shard, np.arange(len(shard.photo)).repeat(2), np.random.default_rng(0))
    start_from_pca(vae, picture, weight)
    whole, inside = quality(vae, shard, np.arange(8))
    assert whole > 26
    assert inside > 22
