"""The decoder's linears and the head on quantised weights, in place: `quantise_decoder`.

What crosses: a loaded model in; the same model with its linears replaced, and a `QuantiseReport`, out. Which kernel
runs is measured (`choice`), how it runs is in `kernels`. Vision tower, projector, embeddings, norms and LoRA layers
keep their weights. A linear the kernel cannot hold goes to another one or stays as it is, and the report lists it.
A quantised model answers; it cannot be trained, saved or moved to another device.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import Tensor, nn

from xverse_v.errors import error
from xverse_v.model import XverseVForConditionalGeneration

from .choice import Choice, choose
from .kernels import Kernel, Kind, Product, cpu_kernels

KINDS = ("int8", "int4")
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HEAD = "lm_head"

_CACHES = 2**26  # bytes of linears above which decoding reads them from memory, not from the processor's caches
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """How many linears of one name run on one kernel; "float32" and the like are those left as they were."""

    name: str
    kernel: str
    count: int


@dataclass(frozen=True)
class QuantiseReport:
    """What runs how, and why. Bytes are those of the linears and the head, ``before`` in the dtype they were stored in.

    ``peak_bytes``: the most memory this process has held so far, mapped files included; None where that is unknown.
    """

    kind: str
    kernel: str
    device: str
    held: tuple[Held, ...]
    choices: tuple[Choice, ...]
    bytes_before: int
    bytes_after: int
    peak_bytes: int | None

    @property
    def label(self) -> str:
        """For receipts and cache keys: every kernel that runs, the one of most linears first."""
        counts: Counter[str] = Counter()
        for held in self.held:
            counts[held.kernel] += held.count
        return " + ".join(name for name, _ in counts.most_common())

    @property
    def elsewhere(self) -> tuple[Held, ...]:
        """The linears that do not run on the chosen kernel."""
        return tuple(held for held in self.held if held.kernel != self.kernel)

    @property
    def speedup(self) -> float:
        """Of one linear for one row, against float; below 1 it is slower."""
        choice = self.choices[0]
        return choice.plain.one_row_ms / choice.best.one_row_ms

    def text(self) -> str:
        """What runs and why, for people; one line, and one more for linears that run otherwise."""
        line = f"{self.label}: {'; '.join(choice.text() for choice in self.choices)}; linears and head "
        line += f"{self.bytes_before / 1e6:,.1f} -> {self.bytes_after / 1e6:,.1f} MB"
        if self.peak_bytes is not None:
            line += f", peak of the process {self.peak_bytes / 1e6:,.0f} MB"
        if not self.elsewhere:
            return line
        return f"{line}\nnot {self.kernel}: " + ", ".join(f"{h.count} x {h.name} in {h.kernel}" for h in self.elsewhere)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        choices = [
            {
                "kernels": [kernel.name for kernel in choice.order],
                "timings": [asdict(timing) for timing in (*choice.timings, choice.plain)],
                "shape": list(choice.shape),
                "threads": choice.threads,
            }
            for choice in self.choices
        ]
        plain = {name: getattr(self, name) for name in ("kind", "kernel", "label", "device", "speedup")}
        sizes = {name: getattr(self, name) for name in ("bytes_before", "bytes_after", "peak_bytes")}
        return {**plain, **sizes, "linears": [asdict(held) for held in self.held], "measured": choices}


class QuantisedLinear(nn.Module):
    """float[..., I] -> float[..., O] through one kernel. ``bias`` stays in float. Holds no parameter of the weight."""

    def __init__(self, product: Product, kernel: str, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.kernel = kernel
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._product = product

    def forward(self, x: Tensor) -> Tensor:
        y = self._product(x)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, kernel={self.kernel}"


def quantise_decoder(model: XverseVForConditionalGeneration, kind: str, *, refuse_slow: bool = True) -> QuantiseReport:
    """Replace the decoder's linears and the head by quantised ones, one after another, freeing each float weight.

    ``kind``: "int8" or "int4", whose kernel is chosen by measurement, or a kernel's own name. In "int4" the head is
    int8: a wrong bit there moves the answer itself. On the CPU all that is left becomes float32. ``refuse_slow`` False
    takes the fastest kernel even where float is faster, to learn its errors.

    Raises E860 (slower than float here), E861 (no linear fits), E862 (unknown kind, or no kernel for this device),
    E863 (a missing library) and E865 (quantised already).
    """
    linears = dict(decoder_linears(model))
    if any(isinstance(module, QuantisedLinear) for module in model.modules()):
        raise error("E865", kernel=next(m.kernel for m in model.modules() if isinstance(m, QuantisedLinear)))
    device = next(iter(linears.values())).weight.device
    kernels = _candidates(kind, device.type)
    before = sum(_bytes(linear.weight) for linear in linears.values())
    cold = before > _CACHES
    choices = [_choose(linears, kernels, kind, cold)]
    if refuse_slow and not choices[0].order:
        raise _slow(kind, choices[0])
    own = choices[0].order or (_fastest(choices[0], kernels),)
    other: tuple[Kernel, ...] = ()
    if own[0].kind == "int4":
        choices.append(_choose(linears, _candidates("int8", device.type), "int8", cold))
        other = choices[1].order or (() if refuse_slow else (_fastest(choices[1], _candidates("int8", device.type)),))
    held, after = _replace_all(model, linears, own, other)
    if device.type == "cpu":
        model.float()
    report = QuantiseReport(kind, own[0].name, str(device), held, tuple(choices), before, after, peak_bytes())
    _log.info("%s", report.text())
    return report


def decoder_linears(model: XverseVForConditionalGeneration) -> Iterator[tuple[str, nn.Linear]]:
    """The seven linears of every layer and the head, by their names in the model; of a LoRA layer, the linear below."""
    prefix = "model.language_model."
    for name, module in model.named_modules():
        own = name.removesuffix(".base_layer")
        wanted = own == HEAD or (own.startswith(prefix) and own.rpartition(".")[2] in LINEARS)
        if wanted and isinstance(module, nn.Linear) and not hasattr(module, "base_layer"):
            yield name, module


def peak_bytes() -> int | None:
    """The most memory this process has held, as the system counts it; None on systems that do not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _candidates(kind: str, device: str) -> list[Kernel]:
    """The kernels that ``kind`` may mean on this kind of device. Raises E862 and E863."""
    if device == "cpu":
        every = {name: cpu_kernels(cast(Kind, name)) for name in KINDS}
    elif device == "cuda":
        from .cuda_kernels import cuda_kernels

        every = {name: cuda_kernels(cast(Kind, name)) for name in KINDS}
    else:
        every = {name: [] for name in KINDS}
    named = {kernel.name: [kernel] for kernels in every.values() for kernel in kernels}
    found = (every | named).get(kind, [])
    if not found:
        known = ", ".join([name for name in KINDS if every[name]] + list(named)) or "-"
        raise error("E862", kind=kind, device=device, known=known)
    return found


def _choose(linears: dict[str, nn.Linear], kernels: Sequence[Kernel], kind: str, cold: bool) -> Choice:
    """Measured on the largest linear of a layer that one of them can hold. Raises E861."""
    body = [linear.weight for name, linear in linears.items() if name != HEAD]
    fitting = [weight for weight in body if any(kernel.fits(*weight.shape) for kernel in kernels)]
    if not fitting:
        shapes = ", ".join(sorted({f"{weight.shape[1]} -> {weight.shape[0]}" for weight in body}))
        raise error("E861", kind=kind, shapes=shapes)
    return choose(max(fitting, key=lambda weight: weight.numel()), kernels, cold=cold)


def _fastest(choice: Choice, kernels: Sequence[Kernel]) -> Kernel:
    return next(kernel for kernel in kernels if kernel.name == choice.best.name)


def _slow(kind: str, choice: Choice) -> Exception:
    outside, inside = choice.shape
    return error(
        "E860",
        kind=kind,
        kernel=choice.best.name,
        found=f"{choice.best.one_row_ms:.3g}",
        plain=choice.plain.name,
        expected=f"{choice.plain.one_row_ms:.3g}",
        shape=f"{inside} -> {outside}",
        threads=choice.threads,
    )


def _replace_all(
    model: XverseVForConditionalGeneration,
    linears: dict[str, nn.Linear],
    own: Sequence[Kernel],
    other: Sequence[Kernel],
) -> tuple[tuple[Held, ...], int]:
    """Each linear to the first kernel that can hold it, the head only to eight bits; who runs where, and the bytes."""
    counts: Counter[tuple[str, str]] = Counter()
    after = 0
    for name in list(linears):
        linear = linears.pop(name)  # the last reference but the model's: replacing it there frees its weight
        order = [kernel for kernel in (*own, *other) if name != HEAD or kernel.kind == "int8"]
        kernel = next((kernel for kernel in order if kernel.fits(*linear.weight.shape)), None)
        own_name = name.removesuffix(".base_layer").rpartition(".")[2]
        if kernel is None:
            kept = "float32" if linear.weight.device.type == "cpu" else str(linear.weight.dtype).removeprefix("torch.")
            counts[own_name, kept] += 1
            after += linear.weight.numel() * (4 if kept == "float32" else linear.weight.element_size())
            continue
        after += kernel.stored_bytes(linear.out_features, linear.in_features)
        product = kernel.prepare(linear.weight)
        model.set_submodule(name, QuantisedLinear(product, kernel.name, linear.weight, linear.bias))
        counts[own_name, kernel.name] += 1
    return tuple(Held(name, kernel, count) for (name, kernel), count in counts.items()), after


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
