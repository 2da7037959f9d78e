"""A large policy in little memory: its configuration in, a policy with matrices in bfloat16 out.

Built a block at a time, so that the whole never stands in float32. It drives as it is, under autocast; it learns with
adapters (`adapters`), which stay in float32.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from drivebyword.model.adapters import AdapterConfig, adapt, learning
from drivebyword.model.backbone import Block
from drivebyword.model.experts import halve
from drivebyword.model.policy import Policy, PolicyConfig, initialise
from drivebyword.model.sizes import sizes_of


def lean_policy(config: PolicyConfig) -> Policy:
    """Build a policy; its weights are drawn as `Policy` draws them, then rounded."""
    c = config.decoder
    policy = halve(Policy(replace(config, decoder=replace(c, layers=1))))
    for index in range(1, c.layers):
        block = Block(c, index, config.stream.window)
        block.apply(initialise)
        policy.decoder.blocks.append(halve(block))
    policy.config, policy.decoder.config = config, c
    return policy


def lean_bytes(config: PolicyConfig) -> int:
    """Return about how many bytes `lean_policy` needs at its worst moment."""
    sizes = sizes_of(config)
    block = sizes.by_part["decoder"] // config.decoder.layers
    return 2 * sizes.by_part["decoder"] + 4 * (sizes.total - sizes.by_part["decoder"]) + 4 * block


def adapted(policy: Policy, rank: int = 16) -> Policy:
    """Freeze decoder and encoders and add adapters, in place; what learns is in float32."""
    adapt(policy, AdapterConfig(rank=rank, frozen=("decoder", "frame")))
    for parameter in learning(policy):
        parameter.data = parameter.data.to(torch.float32)
    return policy
