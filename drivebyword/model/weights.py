"""Files of weights: a Hugging Face folder or a GGUF file in, tensors by name out, read when they are asked for.

Numbers come as float32, exact for what the file stores: bfloat16 and float16 widened, GGUF blocks dequantised,
DeepSeek's 8-bit floats times their blocks' scales. Pickled weights are refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from drivebyword.data.files import read_json
from drivebyword.model.architectures import Architecture, from_config, from_gguf

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCALE = "_scale_inv"
"""DeepSeek's suffix for the scales of an 8-bit matrix, one for every 128 x 128 block."""
BLOCK = 128


class WeightFile(ABC):
    """An open file or folder of weights."""

    architecture: Architecture
    names: set[str]
    stacked: bool
    """Whether all experts of a block lie in one tensor."""

    @abstractmethod
    def get(self, name: str) -> Tensor:
        """Return one tensor as float32."""

    @abstractmethod
    def count(self, name: str) -> int:
        """Return how many numbers a tensor holds, without reading it."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer that lies beside the weights; None where there is none."""


def open_weights(source: str | Path) -> WeightFile:
    """Open a Hugging Face folder, a GGUF file, or a hub id (fetched with huggingface_hub, if that is installed).

    Raises:
        ValueError: If there is nothing of the kind, or it is no language model we know.
    """
    path = Path(source)
    if path.is_file() and path.suffix == ".gguf":
        return GgufFile(path)
    if path.is_dir():
        return HuggingFaceFolder(path)
    if path.exists():
        raise ValueError(f"{path} is neither a folder of safetensors nor a .gguf file")
    return HuggingFaceFolder(_fetched(str(source)))


def _fetched(repository: str) -> Path:
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise ValueError(f"{repository} does not exist: give a folder, a .gguf file or a hub id such as org/model")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError("fetching from the hub needs huggingface_hub: pip install huggingface_hub") from None
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub's client raises many kinds, all of which mean: not to be had
        raise ValueError(f"cannot fetch {repository} from the hub: {str(error).splitlines()[0]}") from None


class HuggingFaceFolder(WeightFile):
    """config.json, one or more safetensors files, perhaps tokenizer.json."""

    stacked = False

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder} holds no config.json: it is no Hugging Face model")
        self.architecture = from_config(read_json(folder / "config.json"), str(folder / "config.json"))
        self._file_of: dict[str, Path] = {}
        for file in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt") as opened:
                    self._file_of |= dict.fromkeys(opened.keys(), file)
            except Exception as error:  # safetensors' own error class is no ValueError
                raise ValueError(f"{file} is damaged: {error}") from None
        if not self._file_of:
            raise ValueError(f"{folder} holds no .safetensors file; pickled weights are not read")
        self.names = {name for name in self._file_of if not name.endswith(SCALE)}

    def get(self, name: str) -> Tensor:
        """Return one tensor as float32."""
        value = self._read(name).float()
        if name + SCALE in self._file_of:
            scale = self._read(name + SCALE).float()
            rows, columns = value.shape
            value = value * scale.repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :columns]
        return value

    def count(self, name: str) -> int:
        """Return how many numbers a tensor holds."""
        from safetensors import safe_open

        with safe_open(self._file_of[name], framework="pt") as file:
            return prod(file.get_slice(name).get_shape())

    def _read(self, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(self._file_of[name], framework="pt") as file:
            value: Tensor = file.get_tensor(name)
        return value

    def tokenizer(self) -> Tokenizer | None:
        """Return tokenizer.json's."""
        from tokenizers import Tokenizer

        file = self.folder / "tokenizer.json"
        return Tokenizer.from_file(str(file)) if file.is_file() else None


class GgufFile(WeightFile):
    """A llama.cpp file."""

    stacked = True

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        try:
            reader = GGUFReader(str(path))
        except (ValueError, IndexError, OSError) as error:
            raise ValueError(f"{path} is no GGUF file: {error}") from None
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._meta = {name: field.contents() for name, field in reader.fields.items()}
        self.names = set(self._tensors)
        self.architecture = from_gguf(self._meta, self.names, str(path))
        self._where = str(path)

    def get(self, name: str) -> Tensor:
        """Return one tensor, dequantised."""
        from gguf.quants import dequantize

        stored = self._tensors[name]
        return torch.from_numpy(np.array(dequantize(stored.data, stored.tensor_type), dtype=np.float32))

    def count(self, name: str) -> int:
        """Return how many numbers a tensor holds."""
        return int(self._tensors[name].n_elements)

    def tokenizer(self) -> Tokenizer:
        """Build the byte-level BPE tokenizer of the metadata."""
        return _byte_level(self._meta, self._where)


_WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {"smollm": None, "qwen2": _WORD + r"|\p{N}" + _REST, "llama-bpe": _WORD + r"|\p{N}{1,3}" + _REST}
"""How text is cut before byte pairs are joined, by GGUF's name for it; None: GPT-2's way, digits alone."""
_CONTROL = 3
"""GGUF's type of a token that is no text."""


def _byte_level(meta: Mapping[str, Any], where: str) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    kind, before = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
    if kind != "gpt2" or before not in _SPLITS:
        raise ValueError(
            f"{where}: its tokenizer ({kind}, {before}) is not read from GGUF: give the folder with tokenizer.json"
        )
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(line.split(" ", 1)) for line in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(tokens)}, merges=merges))
    pattern = _SPLITS[before]
    if pattern is None:
        first: Any = pre_tokenizers.Digits(individual_digits=True)
    else:
        first = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, last])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = meta["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True) for text, one in zip(tokens, kinds, strict=True) if one == _CONTROL]
    )
    return tokenizer
