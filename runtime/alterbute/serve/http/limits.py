"""Limits on memory, for all requests together and for each client, and on rate, per API key."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from alterbute.errors import OverloadedError
from alterbute.serve.http.error_response import ApiError

_MAX_BUCKETS: Final = 10_000


class MemoryBudget:
    """A budget of bytes for all requests together; reserved before memory is allocated, from any thread.

    Args:
        size_bytes: The budget.
        share: Part of it, in (0, 1], that one owner of requests may hold.
    """

    def __init__(self, size_bytes: int, share: float = 1.0) -> None:
        self.size_bytes, self.share_bytes = size_bytes, int(size_bytes * share)
        self._free = size_bytes
        self._held: dict[str, int] = {}
        self._lock = Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes that are reserved now."""
        return self.size_bytes - self._free

    def open(self, owner: str = "") -> Reservation:
        """Open an empty reservation for a request of an owner, such as an API key."""
        return Reservation(self, owner)

    def _take(self, owner: str, size_bytes: int) -> None:
        with self._lock:
            held = self._held.get(owner, 0) + size_bytes
            if held > self.share_bytes:
                raise _overload_error("this client's share of the server's memory is taken", "memory_share")
            if size_bytes > self._free:
                raise _overload_error("the server's memory for pictures is taken", "memory")
            self._free -= size_bytes
            self._held[owner] = held

    def _give(self, owner: str, size_bytes: int) -> None:
        with self._lock:
            self._free += size_bytes
            held = self._held.get(owner, 0) - size_bytes
            if held > 0:
                self._held[owner] = held
            else:
                self._held.pop(owner, None)


class Reservation:
    """The bytes that one request has reserved; `release` returns all of them, once."""

    def __init__(self, budget: MemoryBudget, owner: str) -> None:
        self._budget, self._owner, self._taken = budget, owner, 0

    @property
    def owner(self) -> str:
        """The client whose share it counts in."""
        return self._owner

    def take(self, size_bytes: int) -> None:
        """Reserve `size_bytes` more bytes.

        Raises:
            OverloadedError: the budget, or the owner's share of it, has fewer bytes left.
            ApiError: the request alone needs more than an owner's share (413): trying again is useless.
        """
        needed, limit = self._taken + size_bytes, self._budget.share_bytes
        if needed > limit:
            raise ApiError(
                413,
                f"the request needs {needed / 2**20:.0f} MiB of memory; expected at most {limit / 2**20:.0f} (memory_mb x memory_share); "
                "send smaller pictures",
                "memory_limit",
                retry=False,
                reason="too_large",
            )
        self._budget._take(self._owner, size_bytes)
        self._taken = needed

    def release(self) -> None:
        """Return all reserved bytes to the budget."""
        taken, self._taken = self._taken, 0
        self._budget._give(self._owner, taken)


def _overload_error(seen: str, code: str) -> OverloadedError:
    return OverloadedError(seen, "room for this request", "try again", retry_after_s=1, code=code)


@dataclass(slots=True)
class _Bucket:
    level: float
    at_s: float


class RateLimit:
    """A token bucket per key, in megapixel-steps: n = 10 costs ten times n = 1.

    Args:
        rate: Megapixel-steps per second that flow into a bucket; 0 turns the limit off.
        burst: Megapixel-steps that a bucket holds.
        clock: Returns the time in seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = Lock()

    def take(self, key: str, cost: float) -> None:
        """Take a request's cost out of a key's bucket.

        Raises:
            OverloadedError: the bucket does not hold the cost now.
        """
        if self._rate <= 0:
            return
        with self._lock:
            now = self._clock()
            bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
            bucket.level = min(self._burst, bucket.level + (now - bucket.at_s) * self._rate)
            bucket.at_s = now
            self._buckets[key] = bucket
            while len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
            # A request larger than the bucket waits until it is full, and empties it.
            price = min(cost, self._burst)
            if price <= bucket.level:
                bucket.level -= price
                return
            wait_s = (price - bucket.level) / self._rate
        raise OverloadedError(
            "this key has used its share of the server",
            f"{self._rate:g} megapixel-steps per second",
            "wait",
            retry_after_s=wait_s,
            code="rate",
        )

    def give_back(self, key: str, cost: float) -> None:
        """Return to a key's bucket what was taken for a request that was not run."""
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.level = min(self._burst, bucket.level + min(cost, self._burst))
