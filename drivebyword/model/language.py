"""Language models: our decoder with somebody's weights, an embedding, a head and a tokenizer.

In: token ids. Out: states, or logits of the next token. `take` turns an open file of weights into one and says what it
took; `grown` adds tokens, as reason and act tokens are added to a language's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from drivebyword.model.architectures import EMBEDDING, HEAD, PARTLY
from drivebyword.model.attention import Kept, KeyValue
from drivebyword.model.backbone import Decoder
from drivebyword.model.conversion import plan
from drivebyword.model.ring import longer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from drivebyword.model.weights import WeightFile


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A decoder, its token embedding, its head and its tokenizer."""

    decoder: Decoder
    embedding: Float[Tensor, "V D"]
    tokenizer: Tokenizer | None
    head: Float[Tensor, "V D"] | None = None
    """None: the embedding is the head too."""

    def encode(self, text: str) -> list[int]:
        """Return token ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        return str(self._tokenizer.decode(list(ids)))

    @property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError("no tokenizer lies beside these weights: give token ids")
        return self.tokenizer

    @torch.inference_mode()
    def states(self, ids: Int[Tensor, "B L"], layer: int) -> Float[Tensor, "B L D"]:
        """Return the states after `layer` blocks."""
        length = ids.shape[1]
        mask = torch.ones(1, length, length, dtype=torch.bool).tril()
        return self.decoder.states(self.embedding[ids].float(), torch.arange(length), mask, layer)

    @torch.inference_mode()
    def logits(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Return the logits of every next token."""
        return self._step(ids, None)[0]

    @torch.inference_mode()
    def continued(self, ids: Int[Tensor, "B L"], tokens: int) -> Int[Tensor, "B more"]:
        """Return the `tokens` that greedily follow; each is paid for once."""
        logits, known = self._step(ids, None)
        found, rows = [logits[:, -1:].argmax(-1)], longer(known, tokens)
        for at in range(ids.shape[1], ids.shape[1] + tokens - 1):
            logits, _ = self._step(found[-1], [row._replace(at=at) for row in rows])
            found.append(logits[:, -1:].argmax(-1))
        return torch.cat(found[:tokens], dim=1)

    def _step(self, ids: Int[Tensor, "B L"], past: list[Kept] | None) -> tuple[Float[Tensor, "B L V"], list[KeyValue]]:
        before = 0 if past is None else past[0].at
        length = ids.shape[1]
        mask = torch.ones(1, length, before + length, dtype=torch.bool).tril(before)
        positions = torch.arange(before, before + length)
        y, own = self.decoder(self.embedding[ids].float(), positions, mask, past=past)
        head = self.embedding if self.head is None else self.head
        return y @ head.float().T, own

    def grown(self, words: Sequence[str], seed: int = 0) -> LanguageModel:
        """Return the model with tokens added behind the others, as special ones; old tokens keep their numbers.

        New rows are the mean of the old ones and a little noise, so that no new token is likelier than an old one.
        """
        generator = torch.Generator().manual_seed(seed)

        def more(rows: Float[Tensor, "V D"]) -> Float[Tensor, "W D"]:
            mean, spread = rows.float().mean(0), rows.float().std(0)
            noise = torch.randn(len(words), rows.shape[1], generator=generator)
            return torch.cat([rows, (mean + 0.02 * spread * noise).to(rows.dtype)])

        tokenizer = self.tokenizer
        if tokenizer is not None:
            from tokenizers import AddedToken, Tokenizer

            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            known = [word for word in words if tokenizer.token_to_id(word) is not None]
            if known:
                raise ValueError(f"token {known[0]!r} is there already")
            tokenizer.add_special_tokens([AddedToken(word, special=True) for word in words])
        head = None if self.head is None else more(self.head)
        return replace(self, embedding=more(self.embedding), head=head, tokenizer=tokenizer)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of every tensor: of ours, how it was filled; of the file's, what was left."""

    taken: list[str] = field(default_factory=list)
    """Ours, bit for bit one of the file's."""
    reshaped: list[str] = field(default_factory=list)
    """Ours, the same numbers joined, cut or put in another order."""
    new: list[str] = field(default_factory=list)
    """Ours, not in the file: as initialised."""
    left: list[str] = field(default_factory=list)
    """The file's, not used."""
    numbers: dict[str, int] = field(default_factory=dict)
    """How many parameters each of the four holds."""

    def lines(self) -> list[str]:
        """Return the report, a line each."""
        return [
            f"{name:9} {len(getattr(self, name)):5} tensors {self.numbers.get(name, 0):>15,} numbers"
            f"{'  ' + _examples(getattr(self, name)) if name in ('new', 'left') else ''}"
            for name in ("taken", "reshaped", "new", "left")
        ]


def _examples(names: Sequence[str]) -> str:
    """Return kinds of tensors, blocks and experts counted together."""
    kinds = dict.fromkeys(".".join("*" if part.isdigit() else part for part in name.split(".")) for name in names)
    return ", ".join(list(kinds)[:6]) + (", ..." if len(kinds) > 6 else "")


def take(file: WeightFile, layers: int | None = None) -> tuple[LanguageModel, Coverage]:
    """Return the file's language model with all that fits, and what that was.

    Args:
        file: From `weights.open_weights`.
        layers: Only so many blocks from the first on; None: all.

    Raises:
        ValueError: If a tensor is missing or has another shape than the file's own description says.
    """
    found = file.architecture
    if layers is not None:
        if not 1 <= layers <= found.decoder.layers:
            raise ValueError(f"the language model has {found.decoder.layers} layers, not {layers}")
        found = replace(found, decoder=replace(found.decoder, layers=layers))
    with torch.device("meta"):
        decoder = Decoder(found.decoder)
    shapes = {name: value.shape for name, value in decoder.state_dict().items()}
    width = found.decoder.width
    shapes |= {name: torch.Size((found.vocabulary, width)) for name in (EMBEDDING, *([] if found.tied else [HEAD]))}
    sources, weights, report = plan(found, file.stacked), {}, Coverage()
    used: set[str] = set()
    for name, shape in shapes.items():
        source = sources.get(name)
        missing = [one for one in source.names if one not in file.names] if source is not None else []
        if source is None or (missing and found.kind in PARTLY):
            weights[name] = _fresh(name, shape)
            report.new.append(name)
            continue
        if missing:
            raise ValueError(f"tensor {missing[0]} is missing: the weights are not what their description says")
        weights[name] = source.make([file.get(one) for one in source.names]).contiguous()
        if weights[name].shape != shape:
            raise ValueError(f"tensor {source.names[0]} gives {tuple(weights[name].shape)}, expected {tuple(shape)}")
        used |= set(source.names)
        (report.taken if source.how == "taken" else report.reshaped).append(name)
    report.left.extend(sorted(file.names - used))
    for kind in ("taken", "reshaped", "new"):
        report.numbers[kind] = sum(shapes[name].numel() for name in getattr(report, kind))
    report.numbers["left"] = sum(file.count(name) for name in report.left)
    embedding, head = weights.pop(EMBEDDING), weights.pop(HEAD, None)
    decoder.load_state_dict(weights, assign=True)
    model = LanguageModel(
        decoder=decoder.eval().requires_grad_(False), embedding=embedding, head=head, tokenizer=file.tokenizer()
    )
    return model, report


def _fresh(name: str, shape: torch.Size) -> Tensor:
    """Return what a tensor without a source begins as: gains 1, biases 0, matrices small."""
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    return nn.init.trunc_normal_(torch.empty(shape), std=shape[-1] ** -0.5 * 0.6)


def adopt(decoder: Decoder, source: str) -> Coverage:
    """Fill a decoder with a language model's weights; what the model does not have stays as it is.

    Args:
        decoder: Of a policy, say: frame ages are new to a language model.
        source: `smollm2`, or what `weights.open_weights` opens.

    Raises:
        ValueError: If a tensor has another shape there.
    """
    from drivebyword.model.pretrained import load
    from drivebyword.model.weights import open_weights

    model = load() if source == "smollm2" else take(open_weights(source))[0]
    theirs, ours, report = model.decoder.state_dict(), decoder.state_dict(), Coverage()
    for name, value in ours.items():
        if name not in theirs:
            report.new.append(name)
            continue
        if theirs[name].shape != value.shape:
            raise ValueError(f"{source}: {name} is {tuple(theirs[name].shape)} there and {tuple(value.shape)} here")
        with torch.no_grad():
            value.copy_(theirs[name])
        report.taken.append(name)
    report.left.extend(sorted(theirs.keys() - ours.keys()))
    for kind, sizes in (("taken", ours), ("new", ours), ("left", theirs)):
        report.numbers[kind] = sum(sizes[name].numel() for name in getattr(report, kind))
    return report
