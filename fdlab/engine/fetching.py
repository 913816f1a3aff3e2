"""Values of a device's tensors in host memory, fetched and worked on there while the device goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class Fetching:
    """Host memory for the values of some tensors, page-locked where these are on a GPU, and a thread that
    works on them.

    On a GPU the copying has a stream of its own: neither the host nor the step that comes next waits for it.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        cuda = [tensor.device for tensor in tensors if tensor.device.type == "cuda"]
        self._device = cuda[0] if cuda else None
        self.values = [
            torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
            for tensor in tensors
        ]
        self._stream = torch.cuda.Stream(self._device) if self._device else None
        self._fetched: Any = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="averaging")
        self._work: Future[None] | None = None

    @torch.no_grad()
    def fetch(self, tensors: Sequence[Tensor], work: Callable[[list[Tensor]], object]) -> None:
        """Fetch the values as they are now, then call `work` with them in the thread. Raises: what the call
        before raised, for whose end it waits."""
        self.settle()
        if self._stream is None:
            torch._foreach_copy_(self.values, list(tensors))
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                for value, tensor in zip(self.values, tensors, strict=True):
                    value.copy_(tensor, non_blocking=True)
                # One that the thread sleeps on; by default it would keep a core busy.
                self._fetched = torch.cuda.Event(blocking=True)
                self._fetched.record(self._stream)
        self._work = self._worker.submit(self._when_fetched, work)

    def _when_fetched(self, work: Callable[[list[Tensor]], object]) -> None:
        if self._fetched is not None:
            self._fetched.synchronize()
        # Whether gradients are wanted is a thread's own affair.
        with torch.no_grad():
            work(self.values)

    def let_change(self) -> None:
        """Before the tensors change: the device, not the host, waits until they are fetched."""
        if self._fetched is not None:
            torch.cuda.current_stream(self._device).wait_event(self._fetched)

    def settle(self) -> None:
        """Wait for the thread's work. Raises: what it raised."""
        work, self._work = self._work, None
        if work is not None:
            work.result()
