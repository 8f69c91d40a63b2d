"""The noise is Philox4x32-10 with Box-Muller, and a port in another language can reproduce it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from alterbute.denoise.noise import draw_noise, philox4x32


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_has_the_published_known_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox4x32(np.array([counter], np.uint32), key)[0].tolist() == expected


def plain_noise(seed: int, image: int, step: int, size: int) -> list[float]:
    """The documented layout in plain Python integers and libm, as a port would implement it."""
    values: list[float] = []
    for block in range(-(-size // 4)):
        counter, key = [block, step, image, 0], [seed & 0xFFFFFFFF, seed >> 32]
        for _ in range(10):
            first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            high, low = (first >> 32, second >> 32), (first & 0xFFFFFFFF, second & 0xFFFFFFFF)
            counter = [high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]]
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        uniform = [(word + 0.5) / 2.0**32 for word in counter]
        for even, odd in (uniform[:2], uniform[2:]):
            radius, angle = math.sqrt(-2.0 * math.log(even)), (2.0 * math.pi) * odd
            values += [radius * math.cos(angle), radius * math.sin(angle)]
    return values[:size]


def test_a_port_in_plain_arithmetic_draws_the_same_bits() -> None:
    seed = 2**63 - 12345
    drawn = draw_noise(seed, 3, 21, (2, 101, 100))
    expected = np.array(plain_noise(seed, 3, 21, drawn.size), np.float64).astype(np.float32).reshape(drawn.shape)
    # The documentation allows one element in 10^8 to differ: none is expected here.
    assert np.array_equal(drawn, expected)


FIRST_OF_SEED_7 = [
    0.0002915676450356841,
    -0.30484697222709656,
    1.78875732421875,
    1.0678725242614746,
    0.3764035105705261,
    -1.287011742591858,
]


def test_first_values_never_change() -> None:
    """A seed that a user wrote down must give the same picture in every later version."""
    assert draw_noise(7, 0, 0, (6,)).tolist() == pytest.approx(FIRST_OF_SEED_7, abs=0)


def test_noise_is_standard_normal_and_free_of_correlation() -> None:
    noise = draw_noise(1, 0, 0, (1_000_000,)).astype(np.float64)
    assert abs(noise.mean()) < 4e-3
    assert abs(noise.std() - 1) < 3e-3
    assert abs((noise**3).mean()) < 1e-2
    assert abs((noise**4).mean() - 3) < 2e-2
    for lag in (1, 2, 3, 4):
        assert abs((noise[:-lag] * noise[lag:]).mean()) < 5e-3


def test_seed_image_and_step_each_change_every_part() -> None:
    first = draw_noise(1, 0, 0, (64,))
    for arguments in ((2, 0, 0), (1 + 2**32, 0, 0), (1, 1, 0), (1, 0, 1)):
        assert (draw_noise(*arguments, (64,)) != first).all()


def test_a_longer_draw_begins_with_the_shorter() -> None:
    assert np.array_equal(draw_noise(5, 0, 0, (7,)), draw_noise(5, 0, 0, (4, 4)).reshape(-1)[:7])
