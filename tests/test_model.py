"""Claims about the policy network."""

import dataclasses
import math

import pytest
import torch
from small_policy import SMALL, make_batch, make_policy
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.records import INTENTS
from drivebyword.model.attention import Attention, LatentAttention, LatentConfig, as_bias, rotary
from drivebyword.model.experts import MixtureOfExperts
from drivebyword.model.norm import RMSNorm
from drivebyword.model.policy import Policy, PolicyConfig
from drivebyword.model.ranging import ARCS, LidarEncoder, Normalisation
from drivebyword.model.vision import _cells, _extremes, _patches
from drivebyword.world.rigs import reference, tiny


@pytest.fixture(scope="module")
def policy():
    return make_policy()


def test_a_pass_answers_in_the_stated_shapes_and_only_legal_tokens(policy):
    out = policy(make_batch(SMALL.rig, 2, 3))
    grammar = SMALL.grammar
    assert out.logits.shape == (2, 3, grammar.length, grammar.vocabulary)
    assert out.plan.shape == (2, 3, 8, 2) and out.speed.shape == (2, 3) and out.intent.shape == (2, len(INTENTS))
    assert torch.equal(out.logits.isfinite(), torch.from_numpy(grammar.legal).expand_as(out.logits))


def test_every_parameter_learns(policy):
    batch = make_batch(SMALL.rig, 4, 3)
    out = policy(batch)
    loss = F.cross_entropy(out.logits.flatten(0, 2), batch.tokens.flatten())
    free = out.plan.square().mean() + out.speed.mean() + out.intent.square().mean() + out.affordances.mean()
    (loss + free).backward()
    silent = {"silence"}  # read only when nothing was said
    without = {name for name, p in policy.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without <= silent
    policy.zero_grad()


@torch.no_grad()
def test_no_decision_sees_another_decisions_act(policy):
    batch = make_batch(SMALL.rig, 1, 3)
    tokens = batch.tokens.clone()
    tokens[:, 0] = SMALL.grammar.ranges[0, 0] + torch.zeros_like(tokens[:, 0])
    tokens[:, 0] = torch.from_numpy(SMALL.grammar.ranges[:, 0])
    a, b = policy(batch), policy(dataclasses.replace(batch, tokens=tokens))
    # Experts take their tokens together, so rounding may differ; an act that was seen would change far more.
    torch.testing.assert_close(a.logits[:, 1:], b.logits[:, 1:], atol=1e-6, rtol=0.0)
    assert not torch.allclose(a.logits[:, 0], b.logits[:, 0], atol=1e-3)


@torch.no_grad()
def test_later_tokens_and_later_frames_change_nothing_before_them(policy):
    batch = make_batch(SMALL.rig, 1, 3)
    other = make_batch(SMALL.rig, 1, 3, seed=1)
    tokens = batch.tokens.clone()
    tokens[:, 2, 6:] = other.tokens[:, 2, 6:]
    a, b = policy(batch), policy(dataclasses.replace(batch, tokens=tokens))
    torch.testing.assert_close(a.logits[:, 2, :7], b.logits[:, 2, :7])
    ego = batch.ego.clone()
    ego[:, 2] += 1
    c = policy(dataclasses.replace(batch, ego=ego))
    torch.testing.assert_close(a.logits[:, :2], c.logits[:, :2])
    assert not torch.allclose(a.logits[:, 2], c.logits[:, 2])


@torch.no_grad()
def test_a_missing_sensor_is_not_looked_at_whatever_its_zeros_hold(policy):
    batch = make_batch(SMALL.rig, 1, 2)
    for index, name in enumerate(SMALL.rig.sensor_names()):
        present = batch.present.clone()
        present[..., index] = False
        blind = dataclasses.replace(batch, present=present)
        cameras = dict(batch.cameras)
        changed = {}
        if name in cameras:
            cameras[name] = 255 - cameras[name]
            changed["cameras"] = cameras
        elif name == "lidar":
            changed["lidar"] = batch.lidar + 5
        else:
            changed["radar"] = batch.radar + 5
        a, b = policy(blind), policy(dataclasses.replace(blind, **changed))
        torch.testing.assert_close(a.logits, b.logits)
        assert not torch.allclose(a.logits, policy(batch).logits), name


@torch.no_grad()
def test_without_any_sensor_and_without_words_the_answer_is_still_finite(policy):
    batch = make_batch(SMALL.rig, 2, 2)
    empty = dataclasses.replace(
        batch, present=torch.zeros_like(batch.present), word_mask=torch.zeros_like(batch.word_mask)
    )
    out = policy(empty)
    assert out.logits.isfinite().sum() == policy(batch).logits.isfinite().sum() and out.plan.isfinite().all()


@torch.no_grad()
def test_hidden_history_equals_no_history(policy):
    batch = make_batch(SMALL.rig, 1, 3)
    hidden = dataclasses.replace(batch, history_valid=torch.zeros_like(batch.history_valid))
    alone = dataclasses.replace(
        batch,
        cameras={k: v[:, 2:] for k, v in batch.cameras.items()},
        lidar=batch.lidar[:, 2:], radar=batch.radar[:, 2:], radar_valid=batch.radar_valid[:, 2:],
        ego=batch.ego[:, 2:], passed=batch.passed[:, 2:],
        present=batch.present[:, 2:], tokens=batch.tokens[:, 2:], history_valid=batch.history_valid[:, 2:],
    )  # fmt: skip
    torch.testing.assert_close(policy(hidden).logits[:, 2:], policy(alone).logits)


@torch.no_grad()
def test_attention_maps_are_shares_and_name_every_word(policy):
    maps = policy.maps(make_batch(SMALL.rig, 2, 3, words=5))
    sensors = sum(policy.frame.vision.counts) + SMALL.encoder.lidar_tokens + SMALL.encoder.radar_tokens
    assert maps.sensors_to_words.shape == (2, 3, sensors, 6) and maps.words_to_sensors.shape == (2, 3, 6, sensors)
    torch.testing.assert_close(maps.sensors_to_words.sum(-1), torch.ones(2, 3, sensors))
    torch.testing.assert_close(maps.words_to_sensors.sum(-1), torch.ones(2, 3, 6))


def test_the_routers_bias_spreads_tokens_over_experts():
    torch.manual_seed(0)
    mixture = MixtureOfExperts(16, 8, 8, experts=4, top=1, balance_rate=0.02).train()
    x = torch.randn(512, 16) + 1.0  # skewed inputs prefer some experts

    def shares():
        with torch.no_grad():
            scores = torch.sigmoid(mixture.router(x)) + mixture.bias
        return torch.bincount(scores.argmax(-1), minlength=4) / len(x)

    before = shares().max()
    for _ in range(200):
        mixture(x)
    assert shares().max() < 0.4 < before


def test_mixture_equals_the_plain_sum_over_experts():
    torch.manual_seed(0)
    mixture = MixtureOfExperts(16, 8, 8, experts=4, top=2).eval()
    x = torch.randn(2, 9, 16)
    gates = torch.sigmoid(mixture.router(x))
    best = gates.topk(2, dim=-1)
    weight = torch.zeros_like(gates).scatter(-1, best.indices, best.values / best.values.sum(-1, keepdim=True))
    plain = mixture.shared(x) + sum(weight[..., i : i + 1] * e(x) for i, e in enumerate(mixture.experts))
    torch.testing.assert_close(mixture(x), plain)


def test_the_handwritten_norm_is_the_libraries():
    x = torch.randn(3, 8)
    torch.testing.assert_close(RMSNorm(8)(x), F.rms_norm(x, (8,), eps=1e-5))


def test_the_tiny_preset_has_three_to_six_million_active_parameters():
    counts = Policy(PolicyConfig(rig=tiny())).parameters_by_use()
    assert 3e6 <= counts["active"] <= 6e6 <= counts["total"]


def test_another_rig_builds_and_a_camera_that_cannot_be_cut_is_named():
    Policy(dataclasses.replace(SMALL, rig=reference()))
    camera = dataclasses.replace(tiny().cameras[0], width=100)
    with pytest.raises(ValueError, match="camera 'wide' is 100x64"):
        Policy(dataclasses.replace(SMALL, rig=dataclasses.replace(tiny(), cameras=(camera,))))


def test_a_policy_builds_without_memory_to_count_its_parameters():
    decoder = dataclasses.replace(PolicyConfig(rig=tiny()).decoder, width=2048, layers=24, heads=32, kv_heads=8,
                                  head_width=64, hidden=8192, moe_from=24)  # fmt: skip
    with torch.device("meta"):
        large = Policy(dataclasses.replace(PolicyConfig(rig=tiny()), decoder=decoder))
    assert 1.2e9 < large.parameters_by_use()["total"] < 2e9


def test_a_lamp_of_one_pixel_is_noticed_wherever_it_is_in_its_patch():
    seen = set()
    for row, column in [(0, 0), (3, 4), (7, 9), (15, 15)]:
        image = torch.full((1, 32, 16, 3), 90, dtype=torch.uint8)
        image[0, 16 + row, column] = torch.tensor([250, 30, 30], dtype=torch.uint8)
        plain, lamp = _extremes(_patches(image))[0]
        assert lamp[0] - plain[0] > 3.0 and torch.equal(lamp[1:4], plain[1:4])
        seen.add(tuple(lamp.tolist()))
    assert len(seen) == 1


def test_patches_and_cells_hold_the_pixels_of_their_place():
    image = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    patches = _patches(image)
    expected = image[1, 16:32, 32:48].float() / 127.5 - 1.0
    torch.testing.assert_close(patches[1, 5], expected)
    torch.testing.assert_close(_cells(patches)[1, 5, 6], expected[4:8, 8:12].reshape(-1))


def test_obstacles_are_what_stands_above_the_road_in_each_direction():
    config = tiny().lidar
    encoder = LidarEncoder(config, Normalisation(), tokens=16, width=48, heads=3, hidden=64)
    scan = torch.zeros(1, config.beams, config.columns, 2)
    elevation = torch.linspace(config.elevation_min_deg, config.elevation_max_deg, config.beams).deg2rad()
    scan[0, :, :, 0] = torch.where(elevation < 0, config.z / -elevation.sin(), torch.zeros(()))[:, None]
    assert encoder.glance(scan)[0, : config.columns].max() == 0.0  # bare road
    flat = int((elevation < -0.05).sum()) - 1
    scan[0, flat, 70, 0] = 6.0
    scan[0, flat, 20, 0] = 20.0
    near = encoder.glance(scan)[0, : config.columns]
    assert near[70] > near[20] > 0 and int((near > 0).sum()) == 2


@pytest.mark.parametrize(
    ("x", "y", "touched"),
    [(12.0, 0.0, {-0.01, 0.0, 0.01}), (8.0, 6.0, {0.14}), (8.0, -6.0, {-0.14}), (2.0, 2.0, set()), (-8.0, 0.0, set())],
)
def test_what_stands_is_in_the_way_of_the_arcs_that_lead_to_it(x, y, touched):
    config = tiny().lidar
    encoder = LidarEncoder(config, Normalisation(), tokens=16, width=48, heads=3, hidden=64)
    scan = torch.zeros(1, config.beams, config.columns, 2)
    column = int((math.pi - math.atan2(y, x - config.x)) / (2 * math.pi) * config.columns)
    scan[0, 12, column, 0] = math.hypot(x - config.x, y)
    near = encoder.glance(scan)[0, config.columns :]
    assert touched <= {arc for arc, value in zip(ARCS, near.tolist(), strict=True) if value > 0}
    assert bool((near > 0).any()) == bool(touched)
    if touched:  # the way there less the car's front, 3.55 m
        assert 4.0 < -8.0 * math.log(float(near.max())) < 10.0


# --------------------------------------------------------------------------- gradients


def plain_attention(q, k, v, bias, factor):
    """Softmax attention query by query and head by head, no trick at all."""
    each = q.shape[1] // k.shape[1]
    rows = []
    for b in range(q.shape[0]):
        for t in range(q.shape[2]):
            heads = []
            for h in range(q.shape[1]):
                scores = torch.stack([(q[b, h, t] * key).sum() * factor for key in k[b, h // each]]) + bias[b, h, t]
                share = (scores - scores.max()).exp()
                heads.append((share[:, None] * v[b, h // each]).sum(0) / share.sum())
            rows.append(torch.cat(heads))
    return torch.stack(rows).unflatten(0, (q.shape[0], -1))


def turned(x, rope):
    low, high = x.chunk(2, dim=-1)
    cos, sin = rope[0, :, : low.shape[-1]], rope[1, :, : low.shape[-1]]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


@pytest.mark.parametrize("kind", ["grouped", "latent", "latent, squeezed"])
def test_gradients_of_attention_are_those_of_the_plain_one(kind):
    torch.manual_seed(3)
    batch, length, width, heads, ages = 2, 6, 24, 4, 3
    if kind == "grouped":
        layer = Attention(width, heads, 2, 6, ages, qkv_bias=True, sharpness=1.3).double()
        turns = 6
    else:
        latent = LatentConfig(rank=10, query_rank=14 if "squeezed" in kind else None, plain_width=5, rope_width=4,
                              value_width=7)  # fmt: skip
        layer = LatentAttention(width, heads, latent, ages, sharpness=1.3).double()
        turns = 4
    torch.nn.init.normal_(layer.age_bias)
    x = torch.randn(batch, length, width, dtype=torch.float64, requires_grad=True)
    rope = rotary(torch.arange(2, 2 + length), turns, 100.0).double()
    mask = (torch.rand(batch, length, length) < 0.6) | torch.eye(length, dtype=torch.bool)
    bias = as_bias(mask, torch.float64)
    age = torch.randint(0, ages, (1, length, length))
    weight = torch.randn(batch, length, width, dtype=torch.float64)

    def plain():
        spread = torch.cat([torch.zeros(heads, 1, dtype=torch.float64), layer.age_bias], dim=1)[:, age[0]]
        whole = torch.where(mask[:, None], spread[None], -torch.inf)
        if kind == "grouped":
            q = layer.query(x).unflatten(-1, (heads, 6)).transpose(1, 2)
            k, v = (part.unflatten(-1, (2, 6)).transpose(1, 2) for part in layer.key_value(x).split(12, dim=-1))
            return layer.out(plain_attention(turned(q, rope), turned(k, rope), v, whole, 1.3 * 6**-0.5))
        asked = layer.norm_query(layer.squeeze(x)) if layer.squeeze is not None else x
        q = layer.query(asked).unflatten(-1, (heads, 9)).transpose(1, 2)
        narrow, shared = layer.compress(x).split([10, 4], dim=-1)
        both = layer.key_value(layer.norm_latent(narrow)).unflatten(-1, (heads, 12)).transpose(1, 2)
        k = torch.cat([both[..., :5], turned(shared[:, None], rope).expand(-1, heads, -1, -1)], dim=-1)
        q = torch.cat([q[..., :5], turned(q[..., 5:], rope)], dim=-1)
        return layer.out(plain_attention(q, k, both[..., 5:], whole, 1.3 * 9**-0.5))

    found, _ = layer(x, x, rope, rope, bias, age, None)
    inputs = [x, *layer.parameters()]
    ours = torch.autograd.grad((found * weight).sum(), inputs)
    for a, b in zip(torch.autograd.grad((plain() * weight).sum(), inputs), ours, strict=True):
        assert (a - b).norm() <= 1e-5 * a.norm()
