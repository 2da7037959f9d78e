"""A policy to a folder and back, in the Hugging Face manner.

In: a `Policy`. Out: `config.json` (the complete configuration, rig, token grammar, normalisation and the words of
the vocabulary), `model.safetensors` (matrices in float16) and `manifest.json` (SHA-256 of both). Never pickle. What is
missing, altered or unknown is refused with one line.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from drivebyword.core.records import CAUSES, DECISIONS, EGO_FIELDS, INTENTS, PLAN_DISTANCES, RELATIONS
from drivebyword.data.files import read_json, sha256_file, write_folder_atomic, write_json
from drivebyword.model.policy import Policy, PolicyConfig

FORMAT = "drivebyword-policy-1"
CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"
_VOCABULARY: dict[str, list[Any]] = {
    "decisions": list(DECISIONS),
    "causes": list(CAUSES),
    "relations": list(RELATIONS),
    "intents": list(INTENTS),
    "ego_fields": list(EGO_FIELDS),
    "plan_distances": list(PLAN_DISTANCES),
}


def save_pretrained(policy: Policy, folder: str | Path) -> Path:
    """Write a checkpoint, whole or not at all, replacing one that is there."""
    from safetensors.torch import save_file

    with write_folder_atomic(folder, replace=True) as temporary:
        write_json(temporary / CONFIG, config_as_json(policy.config))
        save_file(_stored(policy.state_dict()), temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / WEIGHTS).chmod(0o644)  # safetensors makes files only the owner can read
        digests = {name: sha256_file(temporary / name) for name in (CONFIG, WEIGHTS)}
        write_json(temporary / MANIFEST, {"format": FORMAT, "sha256": digests})
    return Path(folder)


def from_pretrained(folder: str | Path) -> Policy:
    """Return the policy of a checkpoint, ready to drive.

    Raises:
        ValueError: If a file is missing, altered or damaged, or says what this version does not know.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    verify(folder)
    config = config_from_json(read_json(folder / CONFIG), str(folder / CONFIG))
    policy = Policy(config)
    names = {name: value.shape for name, value in policy.state_dict().items()}
    weights = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
    found = {name: value.shape for name, value in weights.items()}
    for name in sorted(names.keys() ^ found.keys()):
        raise ValueError(f"{folder / WEIGHTS}: tensor {name!r} is {'missing' if name in names else 'unknown'}")
    for name, shape in names.items():
        if found[name] != shape:
            raise ValueError(f"{folder / WEIGHTS}: tensor {name!r} is {tuple(found[name])}, not {tuple(shape)}")
    policy.load_state_dict(weights)
    return policy.eval()


def verify(folder: str | Path) -> None:
    """Check a checkpoint's files against its manifest; raise ValueError with one line."""
    folder = Path(folder)
    for name in (MANIFEST, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no complete checkpoint: {name} is missing")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{folder / MANIFEST} is not of format {FORMAT}: made by another version")
    digests = manifest.get("sha256")
    for name in (CONFIG, WEIGHTS):
        if not isinstance(digests, dict) or sha256_file(folder / name) != digests.get(name):
            raise ValueError(f"{folder / name} was altered: its SHA-256 is not the manifest's; fetch it again")


def push_to_hub(folder: str | Path, repository: str) -> str:
    """Upload a checkpoint to the Hugging Face hub; return its address. Needs `pip install huggingface_hub`."""
    verify(folder)
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ValueError("pushing needs huggingface_hub: pip install huggingface_hub") from None
    api = HfApi()
    api.create_repo(repository, exist_ok=True)
    return str(api.upload_folder(repo_id=repository, folder_path=str(folder)))


def config_hash(config: PolicyConfig) -> str:
    """Return a short name of a configuration: equal for equal meaning."""
    return hashlib.sha256(json.dumps(config_as_json(config), sort_keys=True).encode()).hexdigest()[:12]


# --------------------------------------------------------------------------- configuration as JSON


def config_as_json(config: PolicyConfig) -> dict[str, Any]:
    """Return the configuration as plain values."""
    return {"format": FORMAT, "policy": _listed(asdict(config)), "vocabulary": _VOCABULARY}


def config_from_json(value: Any, where: str = CONFIG) -> PolicyConfig:
    """Return the configuration of plain values; anything unknown, missing or of a wrong kind is refused."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"{where} is not of format {FORMAT}: made by another version")
    unknown = set(value) - {"format", "policy", "vocabulary"}
    if unknown:
        raise ValueError(f"{where}: field {sorted(unknown)[0]!r} is unknown to this version")
    for name, words in _VOCABULARY.items():
        if value.get("vocabulary", {}).get(name) != words:
            raise ValueError(f"{where}: its {name} are not this version's: the tokens would mean something else")
    return _build(PolicyConfig, value.get("policy"), where, "policy")


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(one) for key, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, (list, tuple)) else value


def _build(kind: Any, value: Any, where: str, name: str) -> Any:
    """Return `value` as the annotated kind: dataclasses, tuples, optionals, numbers, text."""
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kind = next(k for k in get_args(kind) if k is not NoneType)
    if is_dataclass(kind) and isinstance(kind, type):
        return _build_record(kind, value, where, name)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_build(get_args(kind)[0], one, where, f"{name}[{i}]") for i, one in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where}: {name} is {value!r}, expected {getattr(kind, '__name__', kind)}")


def _build_record(kind: type, value: Any, where: str, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {name} must hold the fields of {kind.__name__}")
    known = {f.name: f for f in fields(kind)}
    for key in value:
        if key not in known:
            raise ValueError(f"{where}: field {name}.{key} is unknown to this version")
    for key, one in known.items():
        # A checkpoint states everything: a default that changes later must not change an old policy. What came later
        # and is None where it is not asked for was not there.
        if key not in value and one.default is not None:
            optional = one.default is not MISSING or one.default_factory is not MISSING
            raise ValueError(f"{where}: field {name}.{key} is missing{' (defaults are not filled in)' * optional}")
    hints = get_type_hints(kind)
    return kind(**{key: _build(hints[key], one, where, f"{name}.{key}") for key, one in value.items()})


def _stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices as float16; gains and the routers' biases, which are few, stay float32."""
    return {name: (w.half() if w.ndim >= 2 else w).contiguous() for name, w in state.items()}
