"""What a policy costs before it is built: a configuration in, parameters, tokens, operations, bytes and floors out.

Counted on PyTorch's meta device, which holds no numbers. An operation is a multiplication or an addition, so a weight
counts twice a token. Floors are the least time arithmetic or memory allows; no device reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from drivebyword.model.backbone import DecoderConfig
from drivebyword.model.policy import Policy, PolicyConfig


@dataclass(frozen=True, kw_only=True)
class Device:
    """Dense arithmetic and memory of an accelerator, as its maker states them."""

    name: str
    bf16: float
    """Operations a second."""
    int8: float
    bandwidth: float
    """Bytes a second."""


DEVICES = (
    Device(name="H100", bf16=989e12, int8=1979e12, bandwidth=3.35e12),
    Device(name="Thor", bf16=259e12, int8=517e12, bandwidth=273e9),
    Device(name="Orin", bf16=42.5e12, int8=85e12, bandwidth=204.8e9),
)
"""NVIDIA's data sheets: H100 SXM; Jetson Thor T5000 (half of the sparse figures); AGX Orin 64 GB without DLA."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pass takes."""

    operations: float
    weights: float
    """Parameters that have to be read, whatever the precision."""
    cache: float
    """Numbers of the key-value cache that have to be read."""

    def floor(self, device: Device, bits: int) -> float:
        """Return the least seconds: arithmetic or memory, whichever is longer. The cache stays at 16 bits."""
        rate = device.bf16 if bits == 16 else device.int8
        moved = self.weights * bits / 8 + self.cache * 2
        return max(self.operations / rate, moved / device.bandwidth)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything counted about one configuration."""

    total: int
    active: int
    """Parameters a token passes through at most."""
    by_part: dict[str, int]
    frame: int
    """Tokens a frame."""
    act: int
    """Reason and act tokens a decision."""
    kept: int
    """Tokens in the cache when the window is full."""
    streaming: Cost
    """A decision whose draft holds: the new frame and its act in one pass over the cache."""
    step: Cost
    """One more token after that, as plain autoregression pays for each."""
    whole: Cost
    """A decision with nothing cached: the whole window."""
    cache_bytes: int
    """The cache at 16 bits."""
    training_bytes: int
    """Weights, gradients and AdamW's two moments in float32, a bfloat16 copy, activations of one window."""
    adapter_bytes: int
    """The same where only adapters of rank 16 learn."""


def sizes_of(config: PolicyConfig) -> Sizes:
    """Count a configuration."""
    with torch.device("meta"):
        policy = Policy(config)
    layout, stream, c = policy.layout, config.stream, config.decoder
    use = policy.parameters_by_use()
    window = layout.instruction + stream.window * layout.frame
    new = layout.frame + layout.act
    frame = float(_encoding(policy))
    kept = layout.instruction + (stream.window - 1) * layout.frame
    encoder = use["total"] - sum(p.numel() for p in policy.decoder.parameters())

    def decode(tokens: int, keys: int, frames: int) -> Cost:
        weights = _weights_read(policy, tokens)
        return Cost(
            operations=frames * frame + tokens * (2 * _active(policy) + 4 * keys * c.layers * _attended(c)),
            weights=float(weights + (encoder if frames else 0)),
            cache=float(max(keys - tokens, 0) * c.layers * kept_width(c)),
        )

    activations = 34 * (window + stream.window * layout.act) * c.width * c.layers * 2
    adapters = sum(16 * (m.in_features + m.out_features) for m in policy.decoder.modules() if isinstance(m, nn.Linear))
    return Sizes(
        total=use["total"],
        active=use["active"],
        by_part={name: sum(p.numel() for p in part.parameters()) for name, part in policy.named_children()},
        frame=layout.frame,
        act=layout.act,
        kept=window,
        streaming=decode(new, kept + new, 1),
        step=decode(1, window + layout.act, 0),
        whole=decode(window + layout.act, window + layout.act, stream.window),
        cache_bytes=window * c.layers * kept_width(c) * 2,
        training_bytes=18 * use["total"] + activations,
        adapter_bytes=2 * use["total"] + 18 * adapters + activations,
    )


def kept_width(c: DecoderConfig) -> int:
    """Return the numbers kept of a token and layer."""
    return 2 * c.kv_heads * c.head_width if c.latent is None else c.latent.rank + c.latent.rope_width


def _attended(c: DecoderConfig) -> int:
    """Return multiplications of a query with a key and a value, over all heads, halved: the width of both."""
    if c.latent is None:
        return c.heads * c.head_width
    return c.heads * (c.latent.plain_width + c.latent.rope_width + c.latent.value_width) // 2


def _active(policy: Policy) -> int:
    """Return the decoder's weights a token passes through."""
    use = policy.parameters_by_use()
    return sum(p.numel() for p in policy.decoder.parameters()) - (use["total"] - use["active"])


def _weights_read(policy: Policy, tokens: int) -> float:
    """Return the decoder's weights a pass over `tokens` tokens reads, experts as even routing touches them."""
    c = policy.config.decoder
    experts = sum(p.numel() for name, p in policy.decoder.named_parameters() if ".experts." in name)
    rest = sum(p.numel() for p in policy.decoder.parameters()) - experts
    touched = 1.0 - (1.0 - c.experts_per_token / c.experts) ** tokens if c.experts else 0.0
    return rest + experts * touched


def _encoding(policy: Policy) -> float:
    """Return the operations of encoding one frame: every linear layer times the tokens that pass through it.

    Attention inside the encoders is left out; at these sizes it is a few hundredths.
    """
    frame, total = policy.frame, 0.0
    tokens = {
        "vision.fine": 16 * sum(frame.vision.counts),
        "vision": sum(frame.vision.counts),
        "lidar": frame.config.lidar_tokens,
        "radar": frame.config.radar_tokens,
        "merge": sum(frame.counts),
        "read": sum(frame.places),
        "enter": frame.config.radar_tokens,
    }
    for name, module in frame.named_modules():
        if isinstance(module, nn.Linear):
            times = next((count for start, count in tokens.items() if name.startswith(start)), 1)
            total += 2 * module.weight.numel() * times
    return total
