"""The cache of encodings: keyed by content, limited in bytes, least recently used entries evicted first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from alterbute.backends import Array
from alterbute.encode.cache import EncodingCache, content_key
from hypothesis import given
from hypothesis import strategies as st


def outputs_of(size_bytes: int) -> dict[str, Array]:
    """Two arrays of this many bytes in total."""
    return {"scene": np.zeros(size_bytes // 2, np.uint8), "keep": np.ones(size_bytes - size_bytes // 2, np.uint8)}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), max_size=60), st.integers(1, 100))
def test_used_bytes_are_counted_and_never_exceed_the_limit(lookups: list[tuple[int, int]], limit: int) -> None:
    cache, sizes = EncodingCache(limit), dict[int, int]()
    for name, size in lookups:
        key = bytes([name])
        if cache.find(key) is None:
            cache.store(key, outputs_of(size))
            sizes[name] = size
        cached = {name for name in sizes if cache.find(bytes([name])) is not None}
        assert cache.used_bytes == sum(sizes[name] for name in cached) <= limit


def test_the_least_recently_used_entry_is_evicted_first() -> None:
    cache = EncodingCache(30)
    for name in (b"a", b"b", b"c"):
        cache.store(name, outputs_of(10))
    assert cache.find(b"a") is not None
    cache.store(b"d", outputs_of(10))
    assert [name for name in (b"a", b"b", b"c", b"d") if cache.find(name) is None] == [b"b"]


def test_outputs_larger_than_the_limit_are_not_stored_and_evict_nothing() -> None:
    cache = EncodingCache(30)
    cache.store(b"a", outputs_of(20))
    cache.store(b"large", outputs_of(31))
    assert cache.find(b"large") is None
    assert cache.find(b"a") is not None


def test_returned_arrays_are_read_only() -> None:
    cache = EncodingCache(30)
    cache.store(b"a", outputs_of(10))
    outputs = cache.find(b"a")
    assert outputs is not None
    with pytest.raises(ValueError, match="read-only"):
        outputs["scene"][0] = 1


def test_the_key_is_the_content_shape_type_and_graph() -> None:
    plain = np.arange(12, dtype=np.uint8)
    keys = [
        content_key("scene", {"photo": plain}),
        content_key("identity", {"photo": plain}),
        content_key("scene", {"mask": plain}),
        content_key("scene", {"photo": plain.reshape(3, 4)}),
        content_key("scene", {"photo": plain.view(np.int8)}),
        content_key("scene", {"photo": plain[::-1]}),
        content_key("scene", {"photo": plain, "mask": plain[:0]}),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key("scene", {"photo": plain.copy()}) == keys[0]
    assert content_key("scene", {"photo": np.asfortranarray(plain.reshape(3, 4))}) == keys[3]


def test_an_array_under_two_names_has_the_key_of_two_equal_arrays() -> None:
    mask = np.arange(12, dtype=np.uint8)
    assert content_key("window", {"mask": mask, "region": mask}) == content_key(
        "window", {"mask": mask, "region": mask.copy()}
    )
    assert content_key("window", {"mask": mask, "region": mask}) != content_key(
        "window", {"mask": mask, "region": mask + 1}
    )


def test_threads_may_share_a_cache() -> None:
    cache = EncodingCache(1000)

    def work(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, 50, 400):
            if cache.find(bytes([number])) is None:
                cache.store(bytes([number]), outputs_of(int(number) + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    cached_bytes = sum(number + 1 for number in range(50) if cache.find(bytes([number])) is not None)
    assert cache.used_bytes == cached_bytes <= 1000
