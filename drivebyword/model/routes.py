"""Which experts are asked, by which tokens: a policy that drives in, counts by layer, sensor and expert out."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from drivebyword.model.experts import MixtureOfExperts
from drivebyword.model.policy import Policy


class Routes:
    """Counts while its `with` lasts, one driver's decisions at a time.

    `counts` is [mixtures, kinds, experts]: how often tokens of a kind were sent to an expert.
    """

    def __init__(self, policy: Policy) -> None:
        self.mixtures = [part for part in policy.modules() if isinstance(part, MixtureOfExperts)]
        if not self.mixtures:
            raise ValueError("this policy has no experts to count")
        frame, layout = policy.frame, policy.layout
        gists = len(frame.places)
        names = [*policy.config.rig.sensor_names(), *["gists"] * gists, "words", "ego"]
        self.kinds = [*dict.fromkeys(names), "instruction", "reason and act"]
        of = {kind: number for number, kind in enumerate(self.kinds)}
        frames = [of[name] for name, count in zip(names, frame.counts, strict=True) for _ in range(count)]
        act = [of["reason and act"]] * layout.act
        # Every token of a decision has a position of its own (`tokens.stream.Layout.positions`).
        self._kind_at = torch.tensor([of["instruction"]] * layout.instruction + frames + act)
        self._decoder, self._asked = policy.decoder, torch.zeros(0, dtype=torch.long)
        self._rows: Tensor | None = None
        self.counts = np.zeros((len(self.mixtures), len(self.kinds), len(self.mixtures[0].experts)), np.int64)

    def __enter__(self) -> Routes:
        self._hooks = [mixture.register_forward_hook(self._count) for mixture in self.mixtures]
        self._hooks.append(self._decoder.register_forward_pre_hook(self._begin, with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def taken(self) -> Int[np.ndarray, "M K E"]:
        """Return the counts so far and begin again."""
        counts, self.counts = self.counts, np.zeros_like(self.counts)
        return counts

    def _begin(self, module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor | None]) -> None:
        self._asked, self._rows = inputs[1], named.get("rows")

    def _count(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, MixtureOfExperts) and module.chosen is not None
        # The last block computes no more tokens than are asked for.
        asked = self._asked if len(module.chosen) == len(self._asked) else self._asked[self._rows]
        kinds = self._kind_at[asked]
        where = kinds[:, None].expand_as(module.chosen)
        flat = (where * self.counts.shape[2] + module.chosen).flatten()
        found = torch.bincount(flat, minlength=self.counts[0].size).reshape(self.counts.shape[1:])
        self.counts[self.mixtures.index(module)] += found.numpy()
