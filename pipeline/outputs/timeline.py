"""Series over time in a fixed number of bins, however long it goes on.

Bins begin narrow; when the span no longer fits, neighbours are merged and every bin is twice as wide. Sums stay exact
sums and maxima exact maxima at any width: nothing is thinned out or estimated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Timeline:
    """Named sums and maxima in at most ``bins`` bins of equal width. Times in microseconds."""

    def __init__(self, bins: int = 240, bin_us: int = 500_000) -> None:
        if bins < 2:
            raise ValueError("a timeline needs at least two bins")
        self.bin_us = bin_us
        self._bins = bins
        self._first = self._last = 0  # numbers of the first and last bin in use, counted from time 0
        self._empty = True
        self._sums: dict[str, Values] = {}
        self._maxima: dict[str, Values] = {}

    def add(self, name: str, at_us: int, amount: float = 1.0) -> None:
        """Add to the sum of the bin that holds ``at_us``."""
        index = self._index(at_us)
        self._values(self._sums, name)[index] += amount

    def raise_to(self, name: str, at_us: int, value: float) -> None:
        """Let the maximum of the bin that holds ``at_us`` be at least ``value``."""
        index = self._index(at_us)
        values = self._values(self._maxima, name)
        values[index] = max(values[index], value)

    def spread(self, name: str, from_us: int, to_us: int, amount: float) -> None:
        """Add ``amount``, evenly spread over ``[from_us, to_us)``."""
        if to_us <= from_us:
            return
        self._index(from_us)
        self._index(to_us - 1)
        first, last = from_us // self.bin_us, (to_us - 1) // self.bin_us
        edges = np.arange(first, last + 2, dtype=np.int64) * self.bin_us
        inside = np.diff(np.clip(edges, from_us, to_us).astype(np.float64))
        start = first - self._first
        self._values(self._sums, name)[start : start + len(inside)] += amount * inside / (to_us - from_us)

    def sums(self, name: str) -> Values:
        """The sums of the bins in use, in order of time; zeros for an unknown name."""
        return self._series(self._sums, name)

    def maxima(self, name: str) -> Values:
        """The maxima of the bins in use (0 or more), in order of time."""
        return self._series(self._maxima, name)

    @property
    def starts_us(self) -> NDArray[np.int64]:
        """The beginning of each bin in use."""
        if self._empty:
            return np.zeros(0, np.int64)
        return np.arange(self._first, self._last + 1, dtype=np.int64) * self.bin_us

    def _series(self, store: dict[str, Values], name: str) -> Values:
        if self._empty:
            return np.zeros(0)
        length = self._last - self._first + 1
        return store[name][:length].copy() if name in store else np.zeros(length)

    def _values(self, store: dict[str, Values], name: str) -> Values:
        if name not in store:
            store[name] = np.zeros(self._bins)
        return store[name]

    def _index(self, at_us: int) -> int:
        """Make room for ``at_us``; the index of its bin in the arrays."""
        number = at_us // self.bin_us
        if self._empty:
            self._first = self._last = number
            self._empty = False
        while max(self._last, number) - min(self._first, number) >= self._bins:
            self._widen()
            number = at_us // self.bin_us
        if number < self._first:
            self._shift(self._first - number)
            self._first = number
        self._last = max(self._last, number)
        return number - self._first

    def _widen(self) -> None:
        odd = self._first % 2
        self.bin_us *= 2
        self._first, self._last = self._first // 2, self._last // 2
        for store, merge in ((self._sums, np.add), (self._maxima, np.maximum)):
            for name, values in store.items():
                store[name] = self._merged(values, odd, merge)

    def _merged(self, values: Values, odd: int, merge: Callable[[Values, Values], Values]) -> Values:
        padded = np.zeros(2 * self._bins)
        padded[odd : odd + self._bins] = values
        return merge(padded[0::2], padded[1::2])

    def _shift(self, by: int) -> None:
        for store in (self._sums, self._maxima):
            for name, values in store.items():
                moved = np.zeros(self._bins)
                moved[by:] = values[: self._bins - by]
                store[name] = moved
