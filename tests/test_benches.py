"""Claims about the benches that compare with transformers: the same work on both sides, ratios that are the rows'."""

import dataclasses

import pytest
import torch
from small_policy import SMALL, make_batch

from drivebyword.evaluate import smolvla
from drivebyword.evaluate.mixtures import Shape, bench_mixtures, dense_like
from drivebyword.evaluate.training import _at_seconds, _decisions_to, bench_train, plain_policy
from drivebyword.model.backbone import Decoder


def test_mixtures_are_compared_at_equal_weights_and_every_ratio_is_its_rows():
    rows = bench_mixtures(0.01, print, (Shape(name="small", width=64, layers=2, expert=32, batch=2),))["rows"]
    slow = rows["small decision: transformers DeepSeek-V3, float32"]["value"]
    fast = rows["small decision: experts, streaming, float32"]["value"]
    found = rows["small decision: streaming, float32, against transformers"]
    assert found["value"] == pytest.approx(slow / fast, rel=0.01) and found["floor"] == 4.0
    assert rows["small training step: experts against dense, bfloat16"]["ceiling"] == 1.2


def test_dense_has_as_many_active_parameters():
    config = dataclasses.replace(SMALL.decoder, experts=8, experts_per_token=2)
    mixed = Decoder(config)
    dense = dense_like(mixed)
    idle = sum(p.numel() for name, p in mixed.named_parameters() if ".experts." in name) * 6 // 8
    routers = sum(p.numel() for name, p in mixed.named_parameters() if name.endswith("router.weight"))
    dense_first = config.width * 3 * (dense.config.hidden - config.hidden) * config.moe_from
    active = sum(p.numel() for p in mixed.parameters()) - idle - routers + dense_first
    assert sum(p.numel() for p in dense.parameters()) == active


def test_the_plain_loop_answers_for_the_last_frame_and_sees_the_earlier_ones():
    torch.manual_seed(0)
    peer = plain_policy(SMALL).eval()
    batch = make_batch(SMALL.rig, 2, 3)
    with torch.no_grad():
        out = peer(batch)
        ego = batch.ego.clone()
        ego[:, 0] += 3.0
        other = peer(dataclasses.replace(batch, ego=ego))
    legal = torch.from_numpy(SMALL.grammar.legal)
    assert torch.equal(out.logits[:, -1].isfinite(), legal.expand_as(out.logits[:, -1]))
    assert not out.logits[:, :-1].any() and not torch.allclose(out.logits[:, -1], other.logits[:, -1], atol=1e-5)


def test_the_decisions_to_a_loss_lie_between_two_looks():
    seen = ((1.0, 4.0), (2.0, 3.0), (3.0, 3.5), (4.0, 2.0))
    curve = [{"decisions": 10 * k, "seconds": k, "act": act} for k, act in seen]
    assert _decisions_to(curve, 3.5) == 15 and _decisions_to(curve, 3.0) == 20 and _decisions_to(curve, 5.0) == 10
    assert _decisions_to(curve, 2.0) == 40
    assert _at_seconds(curve, 3.2) == 3.5 and _at_seconds(curve, 0.5) == 4.0


def test_learning_needs_scenes_to_judge_with(tmp_path):
    with pytest.raises(ValueError, match="two recorded data sets"):
        bench_train(SMALL, [tmp_path], 1.0, tmp_path, print)


def test_smolvlas_shape_is_counted_on_both_sides(monkeypatch):
    for name, value in (("PIXELS", 128), ("VISION_LAYERS", 1), ("TEXT_LAYERS", 1), ("LAYERS", 2), ("WORDS", 4)):
        monkeypatch.setattr(smolvla, name, value)
    rows = smolvla.bench_smolvla(0.1, print)["rows"]
    whole = rows["SmolVLA, float32"]["value"]
    assert whole == pytest.approx(306.6 / rows["its parts: speed"]["value"] * 1e3, rel=0.01)
    ratio = rows["against SmolVLA"]
    assert ratio["value"] == pytest.approx(whole / rows["ours, streaming, bfloat16"]["value"], rel=0.01)
