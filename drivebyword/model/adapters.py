"""Adapters: a policy whose decoder stays as it is while small matrices beside its own learn (LoRA, arXiv 2106.09685).

In: a policy with pretrained weights. Out: the same policy, in which a few parts learn, so that one GPU holds a large
one's optimiser. `folded` adds what was learned to the weights: a checkpoint knows nothing of adapters. Needs peft.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import torch
from torch import nn

from drivebyword.model.policy import Policy


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What learns."""

    rank: int = 16
    alpha: float = 32.0
    """What the adapters' product is multiplied by, times rank."""
    parts: tuple[str, ...] = ("query", "key_value", "out", "gate_up", "down", "squeeze", "compress")
    """Linear layers of the decoder that get one, by their last name; routed experts never do."""
    frozen: tuple[str, ...] = ("decoder",)
    """Parts of the policy whose own weights stay: everything else learns as before."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"an adapter's rank is at least 1, got {self.rank}")


def adapt(policy: Policy, config: AdapterConfig) -> Policy:
    """Freeze and add adapters, in place; until something was learned the policy says what it said.

    Raises:
        ValueError: If peft is not installed, or a part is not there.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError("adapters need peft: pip install 'drivebyword[adapt]'") from None
    children = dict(policy.named_children())
    for name in config.frozen:
        if name not in children:
            raise ValueError(f"the policy has no part {name!r} to freeze: {', '.join(children)}")
        children[name].requires_grad_(False)
    ends = "|".join(map(re.escape, config.parts))
    wanted = [
        name
        for name, module in policy.decoder.named_modules()
        if isinstance(module, nn.Linear) and ".experts." not in name and re.search(rf"(^|\.)({ends})$", name)
    ]
    if not wanted:
        raise ValueError(f"the decoder has none of {', '.join(config.parts)} to adapt")
    lora = LoraConfig(r=config.rank, lora_alpha=int(config.alpha), target_modules=wanted, lora_dropout=0.0)
    inject_adapter_in_model(lora, policy.decoder)
    return policy


def learning(policy: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [parameter for parameter in policy.parameters() if parameter.requires_grad]


@torch.no_grad()
def folded(policy: Policy) -> Policy:
    """Return a copy whose adapters are added to its weights, with the names it had without them."""
    if not any(".lora_" in name for name, _ in policy.named_parameters()):
        return policy
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(policy)
    for name, module in list(plain.decoder.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(plain.decoder.get_submodule(parent), last, module.get_base_layer())
    return plain
