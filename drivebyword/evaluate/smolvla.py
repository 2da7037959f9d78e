"""Our streaming decision at SmolVLA's shape against SmolVLA's own work: nothing in, a bench report out.

SmolVLA (450 M parameters: SigLIP of 512 x 512 pixels, 16 layers of SmolLM2-360M, an expert of 98 M called ten times)
needs 306.6 G operations for a decision of one picture, counted over its own code. Its speed is that of its two large
parts here: transformers' SigLIP and Llama of the same sizes in float32, timed in this process. Ours has as many
parameters in a vision transformer of the same size and one decoder, keeps what it knows of two earlier pictures, and
pays once for a chunk of 50 steps whose draft holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from drivebyword.evaluate.clock import in_turn, middle, timed
from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = 306.6
"""G operations of a decision of LeRobot 0.4.4's SmolVLA: one picture, 50 actions, 10 steps of its flow."""
PIXELS, PATCH, SHUFFLE = 512, 16, 4
VISION = {"width": 768, "heads": 12, "hidden": 3072}
VISION_LAYERS, TEXT_LAYERS, LAYERS = 12, 16, 26
"""Ours has the text model's 16 layers and, instead of the expert, ten more: the same parameters."""
WIDTH, HEADS, KV_HEADS, HIDDEN = 960, 15, 5, 2560
WORDS, CHUNK, FASTER = 48, 50, 4.0
PEER = "SmolVLA, float32"


def bench_smolvla(share: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Time both; `share` of 5 repetitions."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        runs, parameters = {}, {}
        for name, make in (("its parts", _theirs), ("ours", _ours)):
            say(f"{name}: building")
            runs[name], parameters[name] = make()
        operations = {}
        with torch.no_grad():
            for name, run in runs.items():
                with FlopCounterMode(display=False) as counter:
                    run()
                operations[name] = counter.get_total_flops() / 1e9
            say("both: timing")
            spent = in_turn(runs, max(2, round(5 * share)), warm=0)
    finally:
        torch.set_num_threads(threads)
    speed = operations["its parts"] / middle(spent["its parts"]) * 1e3
    whole = OPERATIONS / speed * 1e3
    times = round(whole / middle(spent["ours"]), 2)
    rows: dict[str, Any] = {
        "its parts: operations": {"value": round(operations["its parts"], 1), "unit": "G"},
        "its parts: speed": {"value": round(speed, 1), "unit": "G operations per CPU-second"},
        "its decision: operations": {"value": OPERATIONS, "unit": "G, counted over its own code"},
        PEER: {"value": round(whole, 1), "unit": "ms of CPU, its operations at its parts' speed"},
        "ours: parameters": {"value": round(parameters["ours"] / 1e6, 1), "unit": "million"},
        "ours: operations": {"value": round(operations["ours"], 1), "unit": "G"},
        "ours, streaming, bfloat16": timed(spent["ours"]),
        "against SmolVLA": {"value": times, "unit": "times", "ratio_to": PEER, "ratio": times, "floor": FASTER},
    }
    return {"bench": "smolvla", "machine": machine(), "commit": commit(), "rows": rows}


def _theirs() -> tuple[Callable[[], object], int]:
    """Return a pass through transformers' vision and text models of SmolVLA's sizes."""
    import torch

    try:
        from transformers import LlamaConfig, LlamaModel, SiglipVisionConfig, SiglipVisionModel
    except ImportError:
        raise ValueError("this bench compares with transformers: pip install transformers") from None
    seeing = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=VISION["width"], intermediate_size=VISION["hidden"], num_hidden_layers=VISION_LAYERS,
            num_attention_heads=VISION["heads"], image_size=PIXELS, patch_size=PATCH, vision_use_head=False,
        )
    ).eval()  # fmt: skip
    reading = LlamaModel(
        LlamaConfig(
            vocab_size=8, hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=WIDTH // HEADS,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    ).eval()  # fmt: skip
    picture = torch.rand(1, 3, PIXELS, PIXELS)
    tokens = torch.randn(1, (PIXELS // PATCH // SHUFFLE) ** 2 + WORDS + 1, WIDTH)

    def run() -> None:
        seeing(pixel_values=picture)
        reading(inputs_embeds=tokens, use_cache=True)

    return run, _count(seeing) + _count(reading)


def _ours() -> tuple[Callable[[], object], int]:
    """Return a streaming decision: a new picture and its act behind two known pictures and the sentence."""
    import torch
    from torch import nn

    from drivebyword.model.backbone import Decoder, DecoderConfig
    from drivebyword.model.experts import halve
    from drivebyword.model.layers import EncoderBlock
    from drivebyword.model.ring import longer

    side = PIXELS // PATCH
    frame = (side // SHUFFLE) ** 2
    enter = nn.Linear(3 * PATCH * PATCH, VISION["width"])
    blocks = nn.ModuleList(EncoderBlock(**VISION) for _ in range(VISION_LAYERS))
    merge = nn.Linear(SHUFFLE * SHUFFLE * VISION["width"], WIDTH, bias=False)
    decoder = Decoder(
        DecoderConfig(
            width=WIDTH, layers=LAYERS, heads=HEADS, kv_heads=KV_HEADS, head_width=WIDTH // HEADS, hidden=HIDDEN,
            theta=100_000.0, experts=0,
        )
    )  # fmt: skip
    model = halve(nn.ModuleList([enter, blocks, merge, decoder]).eval())
    known, new = WORDS + 2 * (frame + 1), frame + 1 + CHUNK
    mask = torch.ones(1, new, known + new, dtype=torch.bool)
    mask[:, : frame + 1, known + frame + 1 :] = False
    mask[:, frame + 1 :, known + frame + 1 :] = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    before, positions = torch.randn(1, known, WIDTH), torch.arange(known + new)
    bias = torch.zeros(1, 1, side * side)
    picture = torch.rand(1, 3, PIXELS, PIXELS)
    rest = torch.randn(1, 1 + CHUNK, WIDTH)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        told = decoder(before, positions[:known], torch.ones(1, known, known, dtype=torch.bool))[1]
    past = longer(told, new)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            cut = picture.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
            x = enter(cut.permute(0, 2, 3, 1, 4, 5).reshape(1, side * side, -1))
            for block in blocks:
                x = block(x, bias)
            small = side // SHUFFLE
            x = x.reshape(1, small, SHUFFLE, small, SHUFFLE, -1).transpose(2, 3).reshape(1, frame, -1)
            x = torch.cat([merge(x), rest.to(x.dtype)], dim=1)
            decoder(x, positions[known:], mask, past=past, rows=torch.arange(frame + 1, new))

    return run, _count(model)


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
