"""The reader: a typed sentence to the states of a frozen pretrained language model.

In: what the passenger typed. Out: one state per word piece, `[L, 576]` float16, from the middle of the model; or
nothing, with a reason, for what cannot be an English sentence. Reading happens once per sentence, not per
frame; the states of all training wordings are kept on disk.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float16
from torch import Tensor

from drivebyword.tokens.text import unreadable

if TYPE_CHECKING:
    from drivebyword.model.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """What is read with.

    A linear probe of the intent on held-out wordings hardly told layers 4 to 16 apart (docs/LOG.md); a deep layer or a
    question after the sentence did not help. The short prefix is there because a causal model's first state
    is nearly the same whatever the word: without it "left" and "right" alone would look alike.
    """

    weights: str = "smollm2"
    """`smollm2`, or `random` for the control row: the same model before it learned anything."""
    layer: int = 10
    prefix: str = "Passenger: "
    suffix: str = ""
    """If given, one more state follows the sentence's: the last, which has heard it all."""
    max_pieces: int = 24
    """Longer sentences lose their middle."""

    def __post_init__(self) -> None:
        if self.weights not in ("smollm2", "random"):
            raise ValueError(f"reader weights {self.weights!r}: use smollm2 or random")


class Reading(NamedTuple):
    """What was read."""

    states: Float16[Tensor, "L Dw"]
    """No rows if the sentence could not be read: the null instruction."""
    why_not: str | None
    """Why it could not be read; None if it could."""


class Reader:
    """Reads sentences with a language model that is loaded on first use."""

    remembered = 256

    def __init__(self, config: ReaderConfig) -> None:
        self.config = config
        self._recent: OrderedDict[str, Reading] = OrderedDict()

    @classmethod
    def pretrained(cls, config: ReaderConfig | None = None) -> Reader:
        """Return the reader of the shipped policy."""
        return cls(config or ReaderConfig())

    @cached_property
    def model(self) -> LanguageModel:
        """The language model, up to the layer that is read."""
        from drivebyword.model import pretrained

        if self.config.weights == "random":
            return pretrained.load_random(self.config.layer)
        return pretrained.load(self.config.layer)

    def read(self, sentence: str) -> Reading:
        """Return the states of one sentence."""
        known = self._recent.get(sentence)
        if known is None:
            known = self._read(sentence)
            self._recent[sentence] = known
            if len(self._recent) > self.remembered:
                self._recent.popitem(last=False)
        self._recent.move_to_end(sentence)
        return known

    def _read(self, sentence: str) -> Reading:
        why_not = unreadable(sentence)
        if why_not is not None:
            return Reading(torch.zeros(0, self.width, dtype=torch.float16), why_not)
        return Reading(self._states([sentence])[0], None)

    @property
    def width(self) -> int:
        """Width of a state."""
        from drivebyword.model.pretrained import SMOLLM2

        return SMOLLM2.width

    # ------------------------------------------------------------------ many at once

    def encode_all(self, sentences: Sequence[str]) -> tuple[Float16[Tensor, "W L Dw"], Bool[Tensor, "W L"]]:
        """Return the states of many sentences, padded, and which of them are there; kept on disk.

        Reading the 9,000 training wordings takes three minutes the first time.
        """
        from safetensors.torch import load_file, save_file

        from drivebyword.data.files import atomic_path
        from drivebyword.model.pretrained import digest, weights_folder

        name = hashlib.sha256("\0".join([digest(), repr(self.config), *sentences]).encode()).hexdigest()[:16]
        path = weights_folder() / f"wordings-{name}.safetensors"
        if path.exists():
            stored = load_file(path)
            return stored["states"], stored["mask"]
        states = torch.zeros(len(sentences), self.config.max_pieces, self.width, dtype=torch.float16)
        mask = torch.zeros(len(sentences), self.config.max_pieces, dtype=torch.bool)
        readable = [i for i, sentence in enumerate(sentences) if unreadable(sentence) is None]
        readable.sort(key=lambda i: len(sentences[i]))
        for start in range(0, len(readable), 32):
            rows = readable[start : start + 32]
            for row, one in zip(rows, self._states([sentences[i] for i in rows]), strict=True):
                states[row, : len(one)], mask[row, : len(one)] = one, True
        longest = int(mask.sum(1).max()) if len(sentences) else 0
        states, mask = states[:, :longest].contiguous(), mask[:, :longest].contiguous()
        with atomic_path(path) as temporary:
            save_file({"states": states, "mask": mask}, temporary)
        return states, mask

    def _states(self, sentences: Sequence[str]) -> list[Float16[Tensor, "L Dw"]]:
        """Run the model on sentences that can be read; padding on the right changes nothing in a causal model."""
        before, after = self.model.encode(self.config.prefix), self.model.encode(self.config.suffix)
        pieces = [self._shortened(self.model.encode(sentence.strip())) for sentence in sentences]
        rows = [before + piece + after for piece in pieces]
        longest = max(len(row) for row in rows)
        ids = torch.from_numpy(np.array([row + [0] * (longest - len(row)) for row in rows], np.int64))
        found = self.model.states(ids, self.config.layer)
        kept = []
        for row, piece, states in zip(rows, pieces, found, strict=True):
            # The sentence's own pieces and, if something follows it, the last state, which has heard it all.
            own = states[len(before) : len(before) + len(piece)]
            kept.append((torch.cat([own, states[len(row) - 1 : len(row)]]) if after else own).half())
        return kept

    def _shortened(self, pieces: list[int]) -> list[int]:
        most = self.config.max_pieces - bool(self.config.suffix)
        if len(pieces) <= most:
            return pieces
        half = most // 2
        return pieces[: most - half] + pieces[-half:]

    def pieces(self, sentence: str) -> list[str]:
        """Return the text of each state's word piece, as attention maps are labelled."""
        pieces = [self.model.decode([i]) for i in self._shortened(self.model.encode(sentence.strip()))]
        return [*pieces, "(sentence)"] if self.config.suffix else pieces
