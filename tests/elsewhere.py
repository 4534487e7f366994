"""A second device of numbers, as strict as a GPU: it refuses to wait and to mix with the CPU.

Its name is "meta", but its tensors have values, which lie on the CPU in secret. So all that asks
for a tensor's device behaves as on any device that is not the CPU, and numbers can be compared. In
a block `with device.strict():` the following raises, as each makes the host wait for a GPU:

- to read a number: `item`, `tolist`, `bool`, `float`, `cpu`, `numpy`, a shape that depends on data;
- to bring a tensor to the device, unless it is said not to wait: `to(device, non_blocking=True)`.

An operation on tensors of both devices raises at any time, but for single numbers of the CPU, which
a GPU takes too. So does float64 where the device is to have none, like MPS.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from hypergradient.engine import torch_kernels
from hypergradient.optimizers import adam

DEVICE = torch.device("meta")
READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"}
READS |= {"_unique2", "repeat_interleave"}
TAKES_NUMBERS = {"copy_", "fill_"}


class Elsewhere(Tensor):
    """A tensor of the device; its values lie on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Self:
        made = Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(),
            dtype=values.dtype, device=DEVICE,
        )  # fmt: skip
        made.values = values
        return made

    def as_subclass(self, cls: Any) -> Any:
        """Return the same numbers as a tensor of another class, such as `Rate`."""
        if issubclass(cls, Elsewhere):
            return cls(self.values)
        return (Elsewhere if cls is Tensor else both(cls))(self.values)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of the device's `with` block")


def lend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch have kernels for the device, as it has for real ones."""
    monkeypatch.setattr(torch_kernels, "FUSED_DEVICES", {"cpu", "meta"})
    monkeypatch.setattr(adam, "CAPTURABLE", {"meta"})
    for module, name, devices in (
        ("torch.optim.adam", "_get_capturable_supported_devices", ["meta"]),
        ("torch.optim.optimizer", "_get_fused_kernels_supported_devices", ["cpu", "meta"]),
    ):
        monkeypatch.setattr(sys.modules[module], name, lambda devices=devices, **_: devices)


@cache
def both(cls: Any) -> Any:
    """Return a class of tensors of the device that are also of a class of one's own."""

    def computed(own: Any, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What is computed from such a tensor is one, as torch does for subclasses."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        plain = type(result) is Elsewhere and func is not Tensor.as_subclass
        return own(result.values) if plain else result

    return type(cls.__name__, (cls, Elsewhere), {"__torch_function__": classmethod(computed)})


class Device(TorchDispatchMode):
    """The device, which exists inside its `with` block.

    Args:
        float64: whether it has numbers of that precision.
    """

    def __init__(self, *, float64: bool = True) -> None:
        super().__init__()
        self._float64, self._strict = float64, False

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Refuse everything for which the host would wait."""
        before, self._strict = self._strict, True
        try:
            yield
        finally:
            self._strict = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute with the values, if a device would do so."""
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        here = [t for t in tensors if isinstance(t, Elsewhere)]
        there = [t for t in tensors if not isinstance(t, Elsewhere)]
        device = kwargs.get("device")
        to_here = device is not None and torch.device(device).type == DEVICE.type
        if not here and not to_here:
            return func(*args, **kwargs)
        self._check(func, name, here, there, args, kwargs, brings=to_here)
        if device is not None:
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        known = {id(t.values): t for t in here}
        with torch.utils._python_dispatch._disable_current_modes():
            values = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        leaves = name == "_to_copy" and device is not None and not to_here

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor) or leaves:
                return value
            if not self._float64 and value.dtype is torch.float64:
                raise TypeError(f"{func}: this device has no float64")
            return known[id(value)] if id(value) in known else Elsewhere(value)

        return tree_map(wrapped, values)

    def _check(
        self, func: Any, name: str, here: Any, there: Any, args: Any, kwargs: Any, *, brings: bool
    ) -> None:
        if brings and there and name == "_to_copy" and self._strict:
            if not kwargs.get("non_blocking"):
                raise RuntimeError(f"{func}: the host waits to bring {there[0].shape} here")
            return
        if not here:
            return
        device = kwargs.get("device")
        away = device is not None and not brings
        if self._strict and (name in READS or away or _reads_by_index(name, args)):
            raise RuntimeError(f"{func}: the host waits to read {here[0].shape}")
        if name == "copy_" and there:
            if self._strict and (args[0] is there[0] or args[1].dim()):
                raise RuntimeError(f"{func}: the host waits for a copy of {there[0].shape}")
            return
        if any(t.is_meta for t in there):
            raise RuntimeError(f"{func}: a tensor that torch has brought to the device by itself")
        mixed = [t for t in there if t.dim()]
        if mixed:
            raise RuntimeError(f"{func}: tensors on two devices, {mixed[0].shape} on the CPU")


def _reads_by_index(name: str, args: Any) -> bool:
    if name not in ("index", "index_put", "index_put_"):
        return False
    return any(isinstance(t, Tensor) and t.dtype is torch.bool for t in args[1])


def _values(tensor: Any) -> Any:
    return tensor.values if isinstance(tensor, Elsewhere) else tensor
