"""Claims about checkpoints."""

import dataclasses
import json

import pytest
import torch
from small_policy import SMALL, make_batch, make_policy

from drivebyword.data.files import sha256_file
from drivebyword.model import checkpoint
from drivebyword.model.policy import Policy, PolicyConfig
from drivebyword.train.weights import blend
from drivebyword.world.rigs import tiny


@pytest.fixture
def saved(tmp_path):
    return checkpoint.save_pretrained(make_policy(), tmp_path / "policy")


def _edit(folder, change):
    """Change the configuration and make the manifest agree."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["config.json"] = sha256_file(folder / "config.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))


@torch.no_grad()
def test_a_loaded_policy_answers_like_the_saved_one(saved):
    loaded, policy = checkpoint.from_pretrained(saved), make_policy()
    assert loaded.config == policy.config and not loaded.training
    batch = make_batch(SMALL.rig, 1, 2)
    torch.testing.assert_close(loaded(batch).plan, policy(batch).plan, atol=0.05, rtol=0.02)


@torch.no_grad()
def test_saving_what_was_loaded_writes_the_same_bytes(saved, tmp_path):
    again = checkpoint.save_pretrained(checkpoint.from_pretrained(saved), tmp_path / "again")
    for name in ("config.json", "model.safetensors", "manifest.json"):
        assert (saved / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        checkpoint.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_altered_byte_is_refused(saved, name):
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(ValueError, match="altered"):
        checkpoint.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["policy"]["stream"].update(speed=3), "policy.stream.speed is unknown"),
        (lambda c: c["policy"]["grammar"].pop("pedal_bins"), "policy.grammar.pedal_bins is missing"),
        (lambda c: c["policy"]["encoder"].update(width="wide"), "policy.encoder.width is 'wide', expected int"),
        (lambda c: c["vocabulary"]["causes"].reverse(), "its causes are not this version's"),
        (lambda c: c.update(extra=1), "field 'extra' is unknown"),
        (lambda c: c.update(format="other"), "not of format"),
        (lambda c: c["policy"]["decoder"].update(layers=2), "tensor 'decoder.blocks.2"),
    ],
)
def test_a_configuration_with_another_meaning_is_refused(saved, change, message):
    _edit(saved, change)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.from_pretrained(saved)
    assert "\n" not in str(error.value)


def test_a_new_save_replaces_the_old_one_whole(saved):
    config = dataclasses.replace(SMALL, word_width=32)
    torch.manual_seed(1)
    checkpoint.save_pretrained(Policy(config), saved)
    assert checkpoint.from_pretrained(saved).config.word_width == 32
    assert [p.name for p in saved.parent.iterdir()] == ["policy"]


def test_the_tiny_preset_fits_in_twenty_four_megabytes(tmp_path):
    folder = checkpoint.save_pretrained(Policy(PolicyConfig(rig=tiny())), tmp_path / "tiny")
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 24e6


def test_equal_configurations_have_equal_hashes():
    other = dataclasses.replace(SMALL, word_width=10)
    assert checkpoint.config_hash(SMALL) == checkpoint.config_hash(dataclasses.replace(SMALL))
    assert checkpoint.config_hash(SMALL) != checkpoint.config_hash(other)


def test_half_of_where_a_run_began_is_the_mean_of_both(tmp_path):
    torch.manual_seed(1)
    before, after = Policy(SMALL), Policy(SMALL)
    for policy, name in ((before, "before"), (after, "after")):
        checkpoint.save_pretrained(policy, tmp_path / name)
    blend(tmp_path / "after", tmp_path / "before", 0.5)
    mixed, old = checkpoint.from_pretrained(tmp_path / "after").state_dict(), before.state_dict()
    for name, value in after.state_dict().items():
        assert torch.allclose(mixed[name], (value + old[name]) / 2, rtol=2e-3, atol=1e-3), name  # stored in half
