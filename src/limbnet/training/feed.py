"""Batches on the training device, the next one copied while the present one is computed, and how long was waited."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Generic

import torch

from limbnet.data.stream import SomeBatch, to_device


class Feed(Generic[SomeBatch]):
    """Iterates over batches on a device.

    Args:
        batches: batches in main memory, pinned where the device is a GPU; an endless stream or a finite one.
        device: where they go.

    Attributes:
        waited: seconds spent waiting for the stream so far.
    """

    def __init__(self, batches: Iterator[SomeBatch], device: torch.device) -> None:
        self.waited = 0.0
        self._batches = batches
        self._device = device
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ahead: SomeBatch | None = None

    def __iter__(self) -> Iterator[SomeBatch]:
        return self

    def __next__(self) -> SomeBatch:
        if self._copying is None:
            return to_device(self._fetch(), self._device)
        if self._ahead is None:
            self._ahead = self._copied(self._copying)
        batch = self._ahead
        torch.cuda.current_stream(self._device).wait_stream(self._copying)
        for tensor in batch:
            tensor.record_stream(torch.cuda.current_stream(self._device))
        self._ahead = None
        return batch

    def look_ahead(self) -> None:
        """Begin to copy the next batch; call it when the device has its work, before waiting for it."""
        if self._copying is not None and self._ahead is None:
            self._ahead = self._copied(self._copying)

    def _copied(self, stream: torch.cuda.Stream) -> SomeBatch:
        batch = self._fetch()
        with torch.cuda.stream(stream):
            return to_device(batch, self._device)

    def _fetch(self) -> SomeBatch:
        begun = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited += time.perf_counter() - begun
