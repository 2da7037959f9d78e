"""Mixtures of experts, as DeepSeek builds them: token states in, the same shape out, each through a few experts.

A router scores, a bias on the router balances, the chosen experts' answers are added to a shared one's. No token is
dropped, whatever the load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

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


class _Sort(torch.autograd.Function):
    """Tokens to rows sorted by expert; the gradient is gathered too, instead of a slow scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        first, *others = ctx.saved_tensors[0].unbind(1)
        found = gradients[0].index_select(0, first)
        for places in others:
            found += gradients[0].index_select(0, places)
        return found, None, None


class _Mix(torch.autograd.Function):
    """Rows back to tokens: each token's rows times its gates, summed. Rows that belong to nobody get no gradient."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, gate: Tensor, source: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(y, gate, source, places)
        mixed = y.index_select(0, places[:, 0]).mul_(gate[:, :1])
        for k in range(1, gate.shape[1]):
            mixed.addcmul_(y.index_select(0, places[:, k]), gate[:, k : k + 1])
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y, gate, source, places = ctx.saved_tensors
        rows = gradients[0].index_select(0, source)
        of_gate = (rows * y).sum(-1).index_select(0, places.flatten()).view_as(gate)
        gates = gate.new_zeros(len(y), 1)
        gates[places.flatten()] = gate.flatten()[:, None]
        return rows.mul_(gates), of_gate, None, None


class _Grouped(torch.autograd.Function):
    """A product of each group of rows with its own matrix: one node for all experts, results written in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], all_learn: bool, *weights: Tensor) -> Tensor:
        cast = [weight.to(x.dtype) for weight in weights]
        ctx.save_for_backward(x, *cast)
        ctx.sizes, ctx.kept, ctx.all_learn = sizes, weights[0].dtype, all_learn
        return _products(x, sizes, [weight.t() for weight in cast])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        g = gradients[0].contiguous()
        wanted = ctx.needs_input_grad
        back = _products(g, ctx.sizes, weights) if wanted[0] else None
        learned = [
            torch.mm(after.t(), before).to(ctx.kept) if asked and (len(after) or ctx.all_learn) else None
            for after, before, asked in zip(g.split(ctx.sizes), x.split(ctx.sizes), wanted[3:], strict=True)
        ]
        return back, None, None, *learned


def _grouped(x: Tensor, sizes: list[int], weights: list[Tensor], all_learn: bool) -> Tensor:
    if torch.is_grad_enabled():
        return _Grouped.apply(x, sizes, all_learn, *weights)  # type: ignore[no-any-return]
    return _products(x, sizes, [weight.to(x.dtype).t() for weight in weights])


def _products(x: Tensor, sizes: list[int], matrices: list[Tensor]) -> Tensor:
    y = x.new_empty(len(x), matrices[0].shape[1])
    for rows, found, matrix in zip(x.split(sizes), y.split(sizes), matrices, strict=True):
        if len(rows):
            torch.mm(rows, matrix, out=found)
    return y


class _Plan(NamedTuple):
    """Where each token's rows lie once they are sorted by expert."""

    source: Int[Tensor, " P"]
    """The token of each row."""
    places: Int[Tensor, "T K"]
    """The rows of each token."""
    sizes: list[int]
    """Rows of each expert; some of the last may belong to nobody."""


def _plan(chosen: Int[Tensor, "T K"], load: list[int], fill: bool) -> _Plan:
    """Sort tokens by expert. `fill`: to sizes that come again.

    On CPUs a product in bfloat16 of a size not seen before is compiled first (oneDNN), which takes longer than the
    product of 500 rows. Loads differ in every pass, so groups are filled up, by a sixteenth at most.
    """
    sizes = [_filled(n) for n in load] if fill else load
    flat, top = chosen.flatten(), chosen.shape[1]
    order = flat.argsort(stable=True)
    places = torch.empty_like(order)
    if not fill:
        places[order] = torch.arange(len(order), device=order.device)
        return _Plan(order.div(top, rounding_mode="floor") if top > 1 else order, places.view_as(chosen), sizes)
    starts = [0, *accumulate(sizes)]
    within = zip(starts, load, strict=False)
    rows = torch.cat([torch.arange(start, start + n, device=order.device) for start, n in within])
    places[order] = rows
    source = order.new_zeros(starts[-1])
    source[rows] = order.div(top, rounding_mode="floor") if top > 1 else order
    return _Plan(source, places.view_as(chosen), sizes)


def _filled(rows: int) -> int:
    step = max(8, 1 << max(rows.bit_length() - 5, 0))
    return -(-rows // step) * step


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
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        plan = _plan(chosen, load.tolist(), fill=dtype == torch.bfloat16 and x.device.type == "cpu")
        with torch.autocast(x.device.type, enabled=False):
            mixed = self._routed(flat.to(dtype), gate.to(dtype), plan).reshape(x.shape)
        return mixed if self.shared is None else self.shared(x) + mixed

    def _routed(self, flat: Float[Tensor, "T D"], gate: Float[Tensor, "T K"], plan: _Plan) -> Float[Tensor, "T D"]:
        """Return what each token's experts say, times their gates."""
        # Processes that share the policy exchange gradients of all experts, also of those that got nothing here.
        shared = self.everywhere is not None
        rows = _Sort.apply(flat, plan.source, plan.places)
        experts = [expert for expert in self.experts if isinstance(expert, SwiGLU)]
        if experts:
            both = _grouped(rows, plan.sizes, [expert.gate_up.weight for expert in experts], shared)
            inner = experts[0].activate(both)
            done = _grouped(inner, plan.sizes, [expert.down.weight for expert in experts], shared)
        else:  # an engine has packed them in its own way
            parts = zip(self.experts, rows.split(plan.sizes), strict=True)
            done = torch.cat([expert(part) for expert, part in parts if len(part)])
        return _Mix.apply(done, gate, plan.source, plan.places)

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
