"""Memory that a computation needs, counted on tensors that have shapes and no numbers.

PyTorch's fake tensors run the same operations and the same autograd as real ones, gradient checkpointing and
autocast included; what is alive at any moment is what a device would hold. Not counted: workspaces inside of
kernels, and what an allocator loses between blocks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

HALF = (torch.bfloat16, torch.float16)
NORMS = (nn.GroupNorm, nn.LayerNorm)
"""What CUDA's autocast computes in fp32 and the CPU's leaves as it is, of what our networks are made of; what
attention sums up is in fp32 anyway."""
_ASK_FOR_NUMBERS: tuple[Any, ...] = (
    torch.ops.aten.nonzero.default,
    torch.ops.aten._local_scalar_dense.default,
)


class Live(TorchDispatchMode):
    """Inside, `now` is the number of bytes that are alive and were allocated inside, `peak` the most there
    were. `known` tensors were there before."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        found = _unknown(function, *arguments) if function in _ASK_FOR_NUMBERS else None
        if found is None:
            found = function(*arguments, **(named or {}))
        for value in tree_iter(found):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        num = storage.nbytes()
        self._seen.add(key)
        self.now += num
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self._seen.discard(key)
            self.now -= num

        weakref.finalize(storage, freed)


@contextmanager
def as_on_cuda(module: nn.Module) -> Iterator[None]:
    """Inside of a CPU's autocast, a module's norms in fp32, as CUDA's has them."""
    norms = [child for child in module.modules() if isinstance(child, NORMS)]
    handles = [norm.register_forward_pre_hook(_widened) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unknown(function: Any, asked: Tensor) -> Any:
    """What stands for numbers that a tensor without numbers is asked for; None: it has some."""
    if not isinstance(asked, FakeTensor):
        return None
    if function is torch.ops.aten.nonzero.default:
        # Places of what is not zero: no more than all.
        return asked.new_empty((asked.numel(), asked.ndim), dtype=torch.long)
    return 0.0 if asked.is_floating_point() else 0


def _widened(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in inputs) if torch.is_autocast_enabled("cpu") else inputs


@contextmanager
def without_numbers(
    module: nn.Module, rounded: Iterable[Tensor] = (), to: torch.dtype | None = None
) -> Iterator[FakeTensorMode]:
    """Give a module parameters and buffers of the same shapes without numbers, those `rounded` in another
    precision; the true ones come back."""
    halves = {id(value) for value in rounded}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    before: list[tuple[dict[str, Any], str, Any]] = []
    fakes: dict[int, Any] = {}
    for child in module.modules():
        for held in (child._parameters, child._buffers):
            before += [(held, name, value) for name, value in held.items() if value is not None]
    try:
        with mode:
            for held, name, value in before:
                if id(value) not in fakes:
                    dtype = to if id(value) in halves else value.dtype
                    empty = torch.empty(value.shape, dtype=dtype, device="cpu")
                    is_weight = isinstance(value, nn.Parameter)
                    fakes[id(value)] = nn.Parameter(empty, value.requires_grad) if is_weight else empty
                held[name] = fakes[id(value)]
        yield mode
    finally:
        for held, name, value in before:
            held[name] = value


def peak_of_pass(
    module: nn.Module, loss: Callable[[], Tensor], precision: torch.dtype, cuda: bool, accumulates: bool
) -> int:
    """Most bytes alive during a forward and a backward pass that are not weights: gradients, activations,
    what comes between; gradients of the pass before are there when it begins.

    `loss` computes what is to be minimised from `module`, which must be `without_numbers`; `precision` is
    autocast's (torch.float32: none); `cuda`: in the precisions that a GPU's autocast chooses; `accumulates`:
    gradients are added to what is there, not made anew.
    """
    tensors = [*module.parameters(), *module.buffers()]
    weights = [p for p in module.parameters() if p.requires_grad]
    half = precision in HALF
    with Live(tensors) as live, as_on_cuda(module) if cuda else nullcontext():
        for p in weights:
            p.grad = torch.empty_like(p)
        # As Lightning does, without keeping what was cast.
        with torch.autocast("cpu", precision, enabled=half, cache_enabled=False):
            value = loss()
        if not accumulates:
            for p in weights:
                p.grad = None
        value.backward()  # type: ignore[no-untyped-call]
    return live.peak


def peak_without_gradient(module: nn.Module, compute: Callable[[], Any]) -> int:
    """Most bytes alive while something is computed that nothing is learnt from, in fp32."""
    with torch.no_grad(), Live([*module.parameters(), *module.buffers()]) as live:
        compute()
    return live.peak
