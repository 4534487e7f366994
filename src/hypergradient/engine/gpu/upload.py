"""Tables from the host to the device, without waiting and inside CUDA graphs."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from array import array

TYPES = {"q": torch.int64, "i": torch.int32, "d": torch.float64}
SPARE = 2  # uploads that one captured graph may hold


class Uploads:
    """What brings tables to one device.

    Inside a capture no pinned memory may be allocated, and what is used must never be written to
    again, as each replay copies it. So some is set aside beforehand.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spare: list[Tensor] = []  # pinned
        self._captured: list[tuple[Tensor, Tensor]] = []  # what graphs read: host and device

    def put(self, numbers: "array[int] | array[float]") -> Tensor:
        """A table on the device; nothing waits for the copy but what is launched after it."""
        dtype = TYPES[numbers.typecode]
        if not len(numbers):
            return torch.empty(0, dtype=dtype, device=self._device)
        host = torch.frombuffer(numbers, dtype=dtype)
        if self._device.type != "cuda":
            return host.clone()
        if torch.cuda.is_current_stream_capturing():
            pinned = self._take(host)
            table = torch.empty_like(host, device=self._device)
            table.copy_(pinned, non_blocking=True)
            self._captured.append((pinned, table))
            return table
        return host.pin_memory().to(self._device, non_blocking=True)

    def set_aside(self, numbers: "array[int]") -> None:
        """Keep pinned memory for tables of this size, should a capture come."""
        if self._device.type != "cuda" or torch.cuda.is_current_stream_capturing():
            return
        size = len(numbers)
        ready = sum(spare.numel() == size for spare in self._spare)
        for _ in range(SPARE - ready):
            self._spare.append(torch.empty(size, dtype=torch.int64, pin_memory=True))

    def _take(self, host: Tensor) -> Tensor:
        for i, spare in enumerate(self._spare):
            if spare.numel() == host.numel() and spare.dtype == host.dtype:
                self._spare.pop(i)
                spare.copy_(host)
                return spare
        raise RuntimeError(
            f"a CUDA graph is being captured and {host.numel()} numbers of {host.dtype} have no "
            "pinned memory: take a step of this optimizer before the capture, with all parameters "
            f"that will have gradients, and at most {SPARE} steps in one capture"
        )
