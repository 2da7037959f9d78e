"""Mixtures of experts against transformers' DeepSeek-V3 and our own dense decoder: nothing in, a bench report out.

The peer is transformers' own class with random weights; ours is read from its saved folder, so both hold the same
numbers, and the logits are compared before anything is timed. Dense has the same attention and as many active
parameters. A decision is 50 new tokens and 12 of an act behind 150 known ones; the peer decides by `generate`, from its
200 tokens, as it comes. A training step is forward, backward and AdamW; the peer's in float32, ours under autocast in
bfloat16, as the training loop runs; both precisions of both are timed.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivebyword.evaluate.clock import in_turn, ratio, timed
from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from torch import Tensor, nn

    from drivebyword.model.backbone import Decoder
    from drivebyword.model.language import LanguageModel

KNOWN, NEW, ACT, WORDS = 150, 50, 12, 512
PEER = "transformers DeepSeek-V3, float32"
BARS = {"decision": 4.0, "step": 3.0, "dense": 1.2}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A mixture's sizes, as `facts` about peers use them: 8 experts, 2 a token, 1 shared."""

    name: str
    width: int
    layers: int
    expert: int
    batch: int
    """Sequences in a training step."""


SHAPES = (
    Shape(name="5M", width=256, layers=6, expert=224, batch=8),
    Shape(name="25M", width=512, layers=8, expert=448, batch=4),
)


def bench_mixtures(share: float, say: Callable[[str], None], shapes: tuple[Shape, ...] = SHAPES) -> dict[str, Any]:
    """Time both shapes; `share` of 20 repetitions of a decision and 8 of a step."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    try:
        for shape in shapes:
            say(f"{shape.name}: decisions")
            peer, ours = _pair(shape)
            rows |= _decisions(shape, peer, ours, max(2, round(20 * share)))
            say(f"{shape.name}: training steps")
            rows |= _steps(shape, peer, ours, max(2, round(8 * share)))
    finally:
        torch.set_num_threads(threads)
    return {"bench": "mixtures", "machine": machine(), "commit": commit(), "rows": rows}


def _pair(shape: Shape) -> tuple[Any, LanguageModel]:
    """Return transformers' model and ours with its weights. Raises ValueError where their logits differ."""
    import torch

    from drivebyword.model.language import take
    from drivebyword.model.weights import open_weights

    try:
        from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
    except ImportError:
        raise ValueError("this bench compares with transformers: pip install transformers") from None
    torch.manual_seed(0)
    config = DeepseekV3Config(
        vocab_size=WORDS, hidden_size=shape.width, intermediate_size=3 * shape.expert, num_hidden_layers=shape.layers,
        moe_intermediate_size=shape.expert, n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1, n_group=1,
        topk_group=1, routed_scaling_factor=1.0, first_k_dense_replace=1, num_attention_heads=8,
        num_key_value_heads=8, q_lora_rank=None, kv_lora_rank=shape.width // 4, qk_nope_head_dim=shape.width // 8,
        qk_rope_head_dim=16, v_head_dim=shape.width // 8, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    peer = DeepseekV3ForCausalLM(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        ours, _ = take(open_weights(Path(folder)))
    ids = torch.randint(0, WORDS, (2, 40))
    with torch.no_grad():
        gap = float((peer(ids).logits - ours.logits(ids)).abs().max())
    if gap > 1e-4:
        raise ValueError(f"{shape.name}: logits differ by {gap:.1e} from transformers': nothing to compare")
    return peer, ours


def dense_like(decoder: Decoder) -> Decoder:
    """Return a decoder without experts, with as many active parameters and the same attention."""
    from drivebyword.model.backbone import Decoder

    c = decoder.config
    return Decoder(replace(c, experts=0, routing=None, hidden=c.expert_hidden * c.experts_per_token + c.shared_hidden))


# --------------------------------------------------------------------------- decisions


def _decisions(shape: Shape, peer: Any, ours: LanguageModel, times: int) -> dict[str, Any]:
    import torch

    from drivebyword.model.experts import halve

    x = torch.randn(1, KNOWN + NEW + ACT, shape.width)
    dense = dense_like(ours.decoder).eval()

    def generate() -> None:
        peer.generate(inputs_embeds=x[:, : KNOWN + NEW], max_new_tokens=ACT, min_new_tokens=ACT, do_sample=False)

    runs: dict[str, Callable[[], object]] = {PEER: generate}
    for name, decoder in (("experts", ours.decoder), ("dense", dense)):
        for precision in ("float32", "bfloat16"):
            half = precision == "bfloat16"
            one = halve(copy.deepcopy(decoder)) if half else decoder
            runs |= {f"{name}, {what}, {precision}": run for what, run in _ours(one, x, half).items()}
    with torch.no_grad():
        spent = in_turn(runs, times)
    at = f"{shape.name} decision"
    rows = {f"{at}: {name}": timed(values) for name, values in spent.items()}
    slow = spent[PEER]
    for what in ("streaming", "nothing known"):
        for precision in ("float32", "bfloat16"):
            fast = spent[f"experts, {what}, {precision}"]
            bar = BARS["decision"] if what == "streaming" else None
            rows[f"{at}: {what}, {precision}, against transformers"] = ratio(slow, fast, PEER, floor=bar)
            plain = f"dense, {what}, {precision}"
            rows[f"{at}: experts against dense, {what}, {precision}"] = ratio(
                fast, spent[plain], plain, ceiling=BARS["dense"]
            )
    return rows


def _ours(decoder: Decoder, x: Tensor, half: bool) -> dict[str, Callable[[], object]]:
    """Return a decision whose draft holds, with 150 tokens known and with none."""
    import torch

    from drivebyword.model.ring import longer

    length = x.shape[1]
    mask = torch.ones(1, length, length, dtype=torch.bool)
    mask[:, : KNOWN + NEW, KNOWN + NEW :] = False
    mask[:, :KNOWN, KNOWN:] = False
    mask[:, KNOWN + NEW :, KNOWN + NEW :] = torch.ones(ACT, ACT, dtype=torch.bool).tril()
    positions = torch.arange(length)

    def cast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=half)

    with torch.no_grad(), cast():
        known = longer(decoder(x[:, :KNOWN], positions[:KNOWN], mask[:, :KNOWN, :KNOWN])[1], length - KNOWN)
    rows = torch.arange(NEW, NEW + ACT)

    def streaming() -> Tensor:
        with cast():
            return decoder(x[:, KNOWN:], positions[KNOWN:], mask[:, KNOWN:], past=known, rows=rows)[0]

    def whole() -> Tensor:
        with cast():
            return decoder(x, positions, mask, rows=rows + KNOWN)[0]

    with torch.no_grad():
        gap = float((streaming() - whole()).abs().max())
    if gap > (0.5 if half else 1e-3):
        raise AssertionError(f"a decision with known tokens differs by {gap:.1e} from one without")
    return {"streaming": streaming, "nothing known": whole}


# --------------------------------------------------------------------------- training steps


def _steps(shape: Shape, peer: Any, ours: LanguageModel, times: int) -> dict[str, Any]:
    import torch

    length = KNOWN + NEW + ACT
    x = torch.randn(shape.batch, length, shape.width)
    wanted = torch.randint(0, WORDS, (shape.batch, ACT))
    mask, positions = torch.ones(1, length, length, dtype=torch.bool).tril(), torch.arange(length)
    rows = positions[-ACT:]
    assert ours.head is not None

    def plain(model: Any) -> Callable[[], Tensor]:
        return lambda: model.lm_head(model.model(inputs_embeds=x, use_cache=False).last_hidden_state[:, -ACT:])

    def own(decoder: Decoder, head: nn.Linear) -> Callable[[], Tensor]:
        return lambda: head(decoder(x, positions, mask, rows=rows)[0])

    def head() -> nn.Linear:
        made = torch.nn.Linear(shape.width, WORDS, bias=False)
        made.weight.data.copy_(ours.head if ours.head is not None else made.weight)
        return made

    mixed, dense = copy.deepcopy(ours.decoder).requires_grad_(True).train(), dense_like(ours.decoder).train()
    runs: dict[str, Callable[[], object]] = {}
    for precision, half in (("float32", False), ("bfloat16", True)):
        theirs = copy.deepcopy(peer).train()
        runs[f"transformers DeepSeek-V3, {precision}"] = _step(plain(theirs), theirs, wanted, half, fused=False)
        for name, decoder in (("experts", mixed), ("dense", dense)):
            whole = torch.nn.ModuleList([copy.deepcopy(decoder), head()])
            forward = own(whole[0], whole[1])  # type: ignore[arg-type]
            runs[f"{name}, {precision}"] = _step(forward, whole, wanted, half, fused=True)
    spent = in_turn(runs, times, warm=3)
    at = f"{shape.name} training step"
    found = {f"{at}: {name}": timed(values) for name, values in spent.items()}
    for precision in ("float32", "bfloat16"):
        fast = spent[f"experts, {precision}"]
        bar = BARS["step"] if precision == "bfloat16" else None
        found[f"{at}: {precision}, against transformers"] = ratio(spent[PEER], fast, PEER, floor=bar)
        plainly = f"dense, {precision}"
        found[f"{at}: experts against dense, {precision}"] = ratio(fast, spent[plainly], plainly, ceiling=BARS["dense"])
    return found


def _step(
    forward: Callable[[], Tensor], model: nn.Module, wanted: Tensor, half: bool, fused: bool
) -> Callable[[], None]:
    """Return a whole step. The peer's optimiser is AdamW as it comes, ours the fused one of the training loop."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True if fused else None)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = forward()
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
