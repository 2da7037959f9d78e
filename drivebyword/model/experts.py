"""Mixtures of experts, as DeepSeek builds them: token states in, the same shape out, each through a few experts.

A router scores, a bias on the router balances, the chosen experts' answers are added to a shared one's. No token is
dropped, whatever the load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.model.layers import SwiGLU

Part = TypeVar("Part", bound=nn.Module)
_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(-1),
    "sqrtsoftplus": lambda x: F.softplus(x).sqrt(),
}


@dataclass(frozen=True, kw_only=True)
class RoutingConfig:
    """How a router chooses, where it is not our own way (sigmoid scores, shares where several are chosen)."""

    scores: str = "sigmoid"
    """sigmoid (DeepSeek-V3), softmax (DeepSeek-V2, Qwen3) or sqrtsoftplus (DeepSeek-V4)."""
    shares: bool = True
    """Whether the chosen experts' gates sum to 1."""
    scale: float = 1.0
    """Factor on the gates."""
    groups: int = 1
    """Experts come in so many groups of equal size..."""
    top_groups: int = 1
    """...of which only so many are looked into."""
    limit: float | None = None
    """Where experts' gates and ups are cut off; None: nowhere."""

    def __post_init__(self) -> None:
        if self.scores not in _SCORES:
            raise ValueError(f"router scores {self.scores!r} are unknown: {', '.join(_SCORES)}")
        if not 1 <= self.top_groups <= self.groups:
            raise ValueError(f"top_groups must be between 1 and groups ({self.groups}), got {self.top_groups}")


class _Reorder(torch.autograd.Function):
    """Rows in another order; the gradient takes the way back, a gather instead of a slow scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return gradients[0].index_select(0, back), None, None


def _reorder(x: Tensor, order: Tensor, back: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return _Reorder.apply(x, order, back)  # type: ignore[no-any-return]
    return x.index_select(0, order)


class MixtureOfExperts(nn.Module):
    """A shared expert and routed ones, balanced by a bias on the router instead of an extra loss (DeepSeek).

    The bias takes part in choosing only. In training each forward pass moves it by `balance_rate` towards the experts
    that got too little. `chosen` are the experts each token was sent to in the last pass.
    """

    bias: Tensor

    def __init__(
        self,
        width: int,
        hidden: int,
        shared_hidden: int,
        experts: int,
        top: int,
        balance_rate: float = 1e-3,
        routing: RoutingConfig | None = None,
    ) -> None:
        super().__init__()
        self.top, self.balance_rate = top, balance_rate
        self.routing = routing or RoutingConfig(shares=top > 1)
        self.chosen: Tensor | None = None
        self.everywhere: Callable[[Tensor], Tensor] | None = None
        """Sums a load over the processes that share the policy; None: there is one process."""
        self.router = nn.Linear(width, experts, bias=False)
        self.register_buffer("bias", torch.zeros(experts))
        limit = self.routing.limit
        self.shared = SwiGLU(width, shared_hidden, limit) if shared_hidden else None
        self.experts = nn.ModuleList(SwiGLU(width, hidden, limit) for _ in range(experts))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return shared(x) + sum of gate * expert(x) over the chosen experts."""
        flat = x.reshape(-1, x.shape[-1])
        gate, chosen = self.route(flat)
        if torch.onnx.is_in_onnx_export():
            return self._all(x, gate, chosen)
        self.chosen = chosen
        load = torch.bincount(chosen.flatten(), minlength=len(self.experts))
        if self.training and torch.is_grad_enabled():
            balance = load if self.everywhere is None else self.everywhere(load)
            self.bias += self.balance_rate * (balance.float().mean() - balance).sign()
        # Tokens sorted by expert: one gather in, two matrix products per expert, one gather out.
        order = chosen.flatten().argsort(stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        if torch.is_autocast_enabled(x.device.type):
            flat = flat.to(torch.get_autocast_dtype(x.device.type))
        sorted_tokens = _reorder(flat.repeat_interleave(self.top, 0) if self.top > 1 else flat, order, back)
        parts = sorted_tokens.split(load.tolist())
        # Processes that share the policy exchange gradients of all experts, also of those that got nothing here.
        asked = (pair for pair in zip(self.experts, parts, strict=True) if len(pair[1]) or self.everywhere is not None)
        done = torch.cat([expert(part) for expert, part in asked])
        routed = _reorder(done, back, order) * gate.to(done.dtype).reshape(-1, 1)
        mixed = routed.unflatten(0, (-1, self.top)).sum(1) if self.top > 1 else routed
        mixed = mixed.reshape(x.shape)
        return mixed if self.shared is None else self.shared(x) + mixed

    def _all(
        self, x: Float[Tensor, "*B D"], gate: Float[Tensor, "T K"], chosen: Int[Tensor, "T K"]
    ) -> Float[Tensor, "*B D"]:
        """Ask every expert, with a gate of 0 where it is not chosen: what engines of fixed shapes can compute."""
        flat = x.reshape(-1, x.shape[-1])
        gates = gate.new_zeros(len(flat), len(self.experts)).scatter(1, chosen, gate)
        mixed = sum(gates[:, e : e + 1] * expert(flat) for e, expert in enumerate(self.experts)).reshape(x.shape)
        return mixed if self.shared is None else self.shared(x) + mixed

    def route(self, flat: Float[Tensor, "T D"]) -> tuple[Float[Tensor, "T K"], Int[Tensor, "T K"]]:
        """Return the gates and the numbers of the experts each token is sent to."""
        with torch.autocast(flat.device.type, enabled=False):  # near ties must not turn on rounding
            return route(flat, self.router.weight, self.bias, self.top, self.routing)


def route(
    flat: Float[Tensor, "T D"], router: Float[Tensor, "E D"], bias: Float[Tensor, " E"], top: int, how: RoutingConfig
) -> tuple[Float[Tensor, "T K"], Int[Tensor, "T K"]]:
    """Return the gates and the numbers of the `top` experts each token is sent to."""
    affinity = _SCORES[how.scores](F.linear(flat.to(router.dtype), router))
    wanted = affinity.detach() + bias
    if how.groups > 1:
        inside = wanted.unflatten(-1, (how.groups, -1))
        # V3 judges a group by its best two experts, V2 by its best.
        best = inside.topk(2, dim=-1).values.sum(-1) if how.scores == "sigmoid" else inside.amax(-1)
        closed = torch.ones_like(best, dtype=torch.bool).scatter(1, best.topk(how.top_groups).indices, value=False)
        wanted = inside.masked_fill(closed[..., None], float("-inf")).flatten(1)
    chosen = wanted.topk(top, dim=-1).indices
    gate = affinity.gather(1, chosen)
    if how.shares:
        gate = gate / gate.sum(-1, keepdim=True)
    return gate * how.scale, chosen


def halve(module: Part) -> Part:
    """Keep the matrices in bfloat16, for passes under autocast; routers stay exact."""
    routers = {id(part.router) for part in module.modules() if isinstance(part, MixtureOfExperts)}
    for part in module.modules():
        if isinstance(part, nn.Linear) and id(part) not in routers:
            part.to(torch.bfloat16)
    return module
