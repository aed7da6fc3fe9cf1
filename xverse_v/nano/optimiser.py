"""The optimiser of the recipe: orthogonalised momentum for the matrices inside the layers, AdamW for everything else.

What crosses: modules in, one `torch.optim.Optimizer` out, whose state is plain tensors. On matrices the momentum is
replaced by the nearest orthogonal matrix (Muon, Jordan 2024), which took half of AdamW's steps here; embeddings, heads,
norms and biases keep AdamW. Everything in float32: half precision is slow on the CPUs that this is made for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; they push every singular value to about one


def orthogonal(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """float[m, n] -> about the nearest (semi-)orthogonal matrix, by `rounds` Newton-Schulz steps."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Orthogonal(torch.optim.Optimizer):
    """`matrices`: two-dimensional weights inside layers, at `share` times the rate of `others`, which get AdamW.

    The share is 10, and 3 once `settle` has been called: the high rate finds the circuits, the low one sharpens them.
    """

    def __init__(
        self,
        matrices: Iterable[torch.Tensor],
        others: Iterable[torch.Tensor],
        lr: float,
        weight_decay: float = 0.01,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "orthogonal": True, "share": 10.0},
            {"params": list(others), "orthogonal": False, "share": 1.0},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    def settle(self) -> None:
        """From now on matrices move at three times the rate of the others, not ten."""
        self.param_groups[0]["share"] = 3.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update. `group["lr"]` is the AdamW rate; matrices use it times their share."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, rate = self.state[parameter], group["lr"] * group["share"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                if group["orthogonal"]:
                    mean = state.setdefault("mean", torch.zeros_like(parameter))
                    mean.lerp_(parameter.grad, 0.05)
                    update = orthogonal(parameter.grad.lerp(mean, 0.95))
                    parameter.add_(update, alpha=-rate * max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5)
                else:
                    self._adam(parameter, state, rate)

    @staticmethod
    def _adam(parameter: nn.Parameter, state: dict[str, torch.Tensor], rate: float) -> None:
        if not state:
            state.update(count=torch.zeros(()), mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        assert parameter.grad is not None
        state["count"] += 1
        state["mean"].lerp_(parameter.grad, 0.1)
        state["square"].lerp_(parameter.grad.square(), 0.02)
        count = state["count"].item()
        scale = (state["square"] / (1 - 0.98**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["mean"], scale, value=-rate / (1 - 0.9**count))


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices inside layers, everything else), in the module's order."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        inside = ".layers." in name and parameter.ndim == 2
        (matrices if inside else others).append(parameter)
    return matrices, others
