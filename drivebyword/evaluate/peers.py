"""Our way to decide beside transformers': nothing in, a bench report out, of a model of 25 million random parameters.

All run in this process, on one thread, in turns, on the same shapes: 200 tokens of context, of which 50 are new, and 12
act tokens. transformers computes all of it for every decision and each token by itself; ours keeps what it knows and
checks a draft in one pass. Counted is the CPU time of the process. The floor is what the weights take, at the speed of
this machine's fastest product and of its memory, both measured in the same run; attention is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

KNOWN, NEW, ACT, VOCABULARY = 150, 50, 12, 512
WIDTH, LAYERS, HEADS, HIDDEN = 512, 8, 8, 1376
EXPERTS, CHOSEN, EXPERT_HIDDEN = 8, 2, 512
ONE_BY_ONE, AT_ONCE = f"{ACT} tokens one by one", f"{ACT} tokens at once"
BARS = {"streaming": 30.0, "nothing cached": 10.0, "verified draft": 5.0}
SHARES = {"streaming": 0.5, "nothing cached": 0.6}
"""Least share of the floor, in 8 bits."""


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """What this machine does at best."""

    products: dict[str, float]
    """Operations a second, by precision."""
    memory: float
    """Bytes a second."""


def bench_peers(rounds: int, acceptance: Path | None = None) -> dict[str, Any]:
    """Time every way; return the report of a bench.

    Args:
        rounds: How many times.
        acceptance: A report of `bench precision`: in how many passes drafts held where a policy drove.
    """
    import torch

    from drivebyword.evaluate.report import commit, machine
    from drivebyword.model.kernels import PRECISIONS, compiled

    torch.set_num_threads(1)
    with torch.inference_mode():
        ways = _theirs()
        ours_in = {precision: _Ours(precision) for precision in PRECISIONS}
        for precision, ours in ours_in.items():
            ways |= {f"{precision}: {name}": way for name, way in ours.ways().items()}
        ways |= {"experts, float32: streaming": _Ours("float32", experts=True).streaming}
        times = _in_turns(ways, rounds)
        peaks = _peaks()
    rows = {f"fastest product, {name}": _row(rate / 1e9, "G operations/s") for name, rate in peaks.products.items()}
    rows["fastest read"] = _row(peaks.memory / 1e9, "GB/s")
    plain = "transformers Llama generate, float32"
    for name, spent in times.items():
        rows[name] = _row(np.median(spent), "ms of CPU, median", plain, np.median(times[plain]) / np.median(spent))
        rows[name]["min"] = round(float(min(spent)), 3)
        precision, _, way = name.partition(": ")
        if precision in PRECISIONS and way in ("streaming", "nothing cached"):
            floor = _floor(peaks, precision, way)
            share = floor / float(np.median(spent))
            rows[name] |= {"floor_ms": round(floor, 3), "share_of_roofline": round(share, 3)}
            if precision == "int8":
                rows[name] |= {"bar": BARS[way], "bar_share": SHARES[way]}
    rows |= _profile(ours_in["int8"], float(np.median(times["int8: streaming"])), rounds)
    shares = _passes(acceptance)
    if shares:
        rows["passes a decision, as driven"] = _row(sum(n * share for n, share in shares.items()), "passes")
    for precision in PRECISIONS:
        rows |= _drafted(precision, {name: float(np.median(spent)) for name, spent in times.items()}, shares)
    return {"bench": "peers", "kernels": compiled(), "machine": machine(), "commit": commit(), "rows": rows}


def _passes(report: Path | None) -> dict[int, float]:
    """Return the share of decisions that took 1, 2, ... passes."""
    if report is None:
        return {}
    from drivebyword.data.files import read_json

    rows = read_json(report)["rows"]
    return {int(name.split()[1]): row["value"] for name, row in rows.items() if name.startswith("passes: ")}


def _drafted(precision: str, times: dict[str, float], shares: dict[int, float]) -> dict[str, Any]:
    """Return how much faster 12 tokens are by a draft than one by one.

    A draft costs what it adds to the frame's pass; every further pass, over 12 tokens at most, is counted whole.
    """
    of = {way: times[f"{precision}: {way}"] for way in ("streaming", "frame alone", ONE_BY_ONE, AT_ONCE)}
    added = of["streaming"] - of["frame alone"]
    name = f"{precision}: {ACT} tokens by a draft against one by one"
    rows = {
        f"{name}, {n} passes": _row(of[ONE_BY_ONE] / (added + (n - 1) * of[AT_ONCE]), "times as fast")
        for n in (1, 2, 3)
    }
    if shares:
        mean = sum(share * (added + (n - 1) * of[AT_ONCE]) for n, share in shares.items())
        rows[f"{name}, as driven"] = _row(of[ONE_BY_ONE] / mean, "times as fast") | {"bar": BARS["verified draft"]}
    return rows


def _in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            # Short ones are repeated: the clock and a neighbour's caches would be most of what is measured.
            repeats = 1 if not times[name] else max(1, min(8, round(20 / times[name][-1])))
            before = time.process_time()
            for _ in range(repeats):
                way()
            times[name].append((time.process_time() - before) * 1e3 / repeats)
    return times


# --------------------------------------------------------------------------- theirs


def _theirs() -> dict[str, Callable[[], Any]]:
    try:
        import transformers
    except ImportError:
        raise ValueError("the peers need transformers: pip install transformers") from None
    import torch

    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "max_position_embeddings": 1024, "bos_token_id": None, "eos_token_id": None,
        "pad_token_id": 0,
    }  # fmt: skip
    experts = {
        "intermediate_size": HIDDEN, "moe_intermediate_size": EXPERT_HIDDEN, "n_routed_experts": EXPERTS,
        "num_experts_per_tok": CHOSEN, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 1, "q_lora_rank": None, "kv_lora_rank": 128, "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 32, "v_head_dim": 64,
    }  # fmt: skip
    states = torch.randn(1, KNOWN + NEW, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.02
    there = torch.ones(1, KNOWN + NEW, dtype=torch.long)

    def generates(kind: str, more: dict[str, Any]) -> Callable[[], Any]:
        config = getattr(transformers, f"{kind}Config")(**sizes, **more)
        model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
        return lambda: model.generate(
            inputs_embeds=states, attention_mask=there, max_new_tokens=ACT, min_new_tokens=ACT, do_sample=False
        )

    return {
        "transformers Llama generate, float32": generates("Llama", {"intermediate_size": HIDDEN}),
        "transformers DeepSeek-V3 generate, float32": generates("DeepseekV3", experts),
    }


# --------------------------------------------------------------------------- ours


class _Ours:
    """A decoder of the same shape, and the ways it decides."""

    def __init__(self, precision: str, *, experts: bool = False) -> None:
        import torch

        from drivebyword.model.backbone import Decoder, DecoderConfig
        from drivebyword.model.fused import exchange

        torch.manual_seed(0)
        config = DecoderConfig(
            width=WIDTH, layers=LAYERS, heads=HEADS, kv_heads=HEADS, head_width=WIDTH // HEADS, hidden=HIDDEN,
            moe_from=1, experts=EXPERTS if experts else 0, experts_per_token=CHOSEN, expert_hidden=EXPERT_HIDDEN,
            shared_hidden=EXPERT_HIDDEN,
        )  # fmt: skip
        whole = torch.nn.ModuleDict({"decoder": Decoder(config).eval(), "head": torch.nn.Linear(WIDTH, VOCABULARY)})
        exchange(whole, precision)
        self.decoder, self.head = whole["decoder"], whole["head"]
        self.embedding = torch.randn(VOCABULARY, WIDTH) * 0.02
        self.x = torch.randn(1, KNOWN + NEW + ACT, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.02
        self.keys, self.values = self._kept()
        self._pass(self.x[:, : KNOWN + NEW], 0, 1)

    def _kept(self) -> tuple[list[Tensor], list[Tensor]]:
        import torch

        from drivebyword.model.ring import across

        shape = (1, HEADS, KNOWN + NEW + ACT, WIDTH // HEADS)
        return [across(torch.zeros, shape) for _ in range(LAYERS)], [torch.zeros(shape) for _ in range(LAYERS)]

    def _pass(self, x: Tensor, at: int, wanted: int) -> Tensor:
        """Return the logits of the last `wanted` of x, which comes after `at` known tokens."""
        import torch

        from drivebyword.model.attention import Kept

        length = x.shape[1]
        mask = torch.ones(1, length, at + length, dtype=torch.bool).tril(at)
        past = [Kept(k, v, at) for k, v in zip(self.keys, self.values, strict=True)]
        rows = torch.arange(length - wanted, length)
        y, _ = self.decoder(x, torch.arange(at, at + length), mask, past=past, rows=rows)
        return self.head(y)  # type: ignore[no-any-return]

    def ways(self) -> dict[str, Callable[[], Any]]:
        """Return what is timed."""
        return {
            "streaming": self.streaming,
            "nothing cached": lambda: self._pass(self.x, 0, ACT),
            "frame alone": lambda: self._pass(self.x[:, KNOWN : KNOWN + NEW], KNOWN, 1),
            AT_ONCE: lambda: self._pass(self.x[:, -ACT:], KNOWN + NEW, ACT),
            ONE_BY_ONE: self._one_by_one,
        }

    def streaming(self) -> Tensor:
        """Encode what is new together with the draft."""
        return self._pass(self.x[:, KNOWN:], KNOWN, ACT)

    def _one_by_one(self) -> list[Tensor]:
        x, found = self.x[:, -ACT : -ACT + 1], []
        for k in range(ACT):
            found.append(self._pass(x, KNOWN + NEW + k, 1).argmax(-1))
            x = self.embedding[found[-1][0]][None]
        return found


def _profile(ours: _Ours, whole: float, rounds: int) -> dict[str, Any]:
    """Return where a streaming decision's time goes: its kernels' calls one by one, and the rest, which calls them."""
    import torch

    from drivebyword.model import fused

    spent: dict[str, float] = {}

    def clocked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            before = time.process_time()
            found = call(*given, **named)
            spent[name] = spent.get(name, 0.0) + time.process_time() - before
            return found

        return run

    names = {"linear": "feed-forward products", "look_back": "attention and its products"}
    plain = {name: getattr(fused, name) for name in names}
    try:
        for name, said in names.items():
            setattr(fused, name, clocked(said, plain[name]))
        with torch.inference_mode():
            for _ in range(4 * rounds):
                ours.streaming()
    finally:
        for name, call in plain.items():
            setattr(fused, name, call)
    parts = {name: seconds * 1e3 / (4 * rounds) for name, seconds in spent.items()}
    parts["dispatch and masks"] = whole - sum(parts.values())
    return {f"int8: streaming, {name}": _row(ms, "ms of CPU", "streaming", ms / whole) for name, ms in parts.items()}


# --------------------------------------------------------------------------- floors


def _floor(peaks: Peaks, precision: str, way: str) -> float:
    """Return the least ms: the weights times the tokens that pass through them, or the weights' bytes."""
    from drivebyword.model.kernels import PRECISIONS

    tokens = NEW + ACT if way == "streaming" else KNOWN + NEW + ACT
    keys, rest = 2 * WIDTH * WIDTH, 2 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN
    last = tokens * keys + ACT * (rest + WIDTH * VOCABULARY)  # of the last layer only the act is wanted
    operations = 2 * ((LAYERS - 1) * tokens * (keys + rest) + last)
    moved = PRECISIONS[precision] * (LAYERS * (keys + rest) + WIDTH * VOCABULARY)
    return max(operations / peaks.products[precision], moved / peaks.memory) * 1e3


def _peaks() -> Peaks:
    import torch

    from drivebyword.model.kernels import PRECISIONS, linear, pack

    products = dict.fromkeys(PRECISIONS, 0.0)
    for rows, inputs, outputs in ((212, 512, 2752), (512, 512, 2048), (1024, 1024, 1024)):
        x, w = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        for precision in PRECISIONS:
            ways = [partial(linear, x, pack(w, None, precision))]
            if precision == "int8":
                a, b = (numbers.clamp(-3, 3).mul(40).to(torch.int8) for numbers in (x, w))
                ways.append(partial(torch._int_mm, a, b.T))
            else:
                kind = getattr(torch, precision)
                ways.append(partial(torch.mm, x.to(kind), w.to(kind).T))
            for way in ways:
                products[precision] = max(products[precision], 2 * rows * inputs * outputs / _best(way, 12))
    block = torch.ones(32 << 20)
    return Peaks(products=products, memory=block.numel() * 4 / _best(block.sum, 6))


def _best(way: Callable[[], Any], times: int) -> float:
    best = float("inf")
    for _ in range(times):
        before = time.process_time()
        way()
        best = min(best, time.process_time() - before)
    return best


def _row(value: float, unit: str, to: str | None = None, ratio: float | None = None) -> dict[str, Any]:
    rounded = None if ratio is None else round(float(ratio), 2)
    return {"value": round(float(value), 3), "unit": unit, "ratio_to": to, "ratio": rounded}
