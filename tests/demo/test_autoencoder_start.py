"""The untrained autoencoder reconstructs as well as the PCA that it starts from."""

from __future__ import annotations

import numpy as np
import torch

from demo.data import make_shard
from demo.model import make_vae
from demo.training.pca import start_from_pca
from demo.training.train_vae import draw_pictures, measure_psnr


def test_the_untrained_autoencoder_reconstructs_pictures() -> None:
    torch.manual_seed(0)
    shard = make_shard(1, 3, 6)
    vae = make_vae()
    picture, weight = draw_pictures(shard, np.arange(len(shard.photo)).repeat(2), np.random.default_rng(0))
    start_from_pca(vae, picture, weight)
    whole, inside = measure_psnr(vae, shard, np.arange(8))
    assert whole > 26
    assert inside > 22
