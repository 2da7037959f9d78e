"""One frame's sensors and the sentence's words to the tokens of a frame: encoding and cross-modal attention.

In: the sensor columns of a `Batch` and the words. Out: N tokens per frame and which of them exist. Inside the
frame, before the decoder, sensor tokens read the words and the words read the sensor tokens; what the words
found is gathered in a few grounded tokens. Neighbouring camera and LiDAR tokens are then merged in pairs: the
decoder is the expensive part, and two neighbours fit one wider token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from drivebyword.core.rig import RigConfig
from drivebyword.model.layers import CrossAttention
from drivebyword.model.norm import RMSNorm
from drivebyword.model.ranging import EgoEncoder, LidarEncoder, Normalisation, RadarEncoder
from drivebyword.model.vision import EXTREMES, Vision


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of the sensor encoders."""

    width: int = 192
    heads: int = 6
    hidden: int = 576
    vision_layers: int = 2
    stem: int = 48
    lidar_tokens: int = 16
    radar_tokens: int = 4
    grounded_tokens: int = 4
    gist: int = 16
    """Features a token gives to the gist of its sensor."""
    glance: int = 96
    """Features between what is seen at a glance (extremes of patches, obstacles by LiDAR) and the ego token."""
    merge: int = 2
    """Neighbouring camera or LiDAR tokens that become one token of the decoder."""


class Words(NamedTuple):
    """A sentence as the frame encoder reads it: index 0 is a learned word that stands for saying nothing."""

    states: Float[Tensor, "B L D"]
    mask: Bool[Tensor, "B L"]


class Maps(NamedTuple):
    """Cross-modal attention of one pass: who looked at which word, and which word looked where."""

    sensors_to_words: Float[Tensor, "B T S L"]
    words_to_sensors: Float[Tensor, "B T L S"]


class FrameEncoder(nn.Module):
    """Sensors and words to frame tokens, in the order cameras, LiDAR, radar, gists, grounded, ego (always last)."""

    owner: Tensor

    def __init__(self, rig: RigConfig, config: EncoderConfig, scale: Normalisation, width: int) -> None:
        super().__init__()
        c = config
        self.config, self.sensors = c, len(rig.sensor_names())
        sizes = {"width": c.width, "heads": c.heads, "hidden": c.hidden}
        self.vision = Vision(rig.cameras, layers=c.vision_layers, stem=c.stem, **sizes)
        self.lidar = LidarEncoder(rig.lidar, scale, tokens=c.lidar_tokens, **sizes) if rig.lidar else None
        self.radar = RadarEncoder(rig.radar, scale, tokens=c.radar_tokens, **sizes) if rig.radar else None
        self.ego = EgoEncoder(scale, sensors=self.sensors, hidden=c.width, width=width)
        self.norm_words, self.norm_sensors = RMSNorm(c.width), RMSNorm(c.width)
        self.read_words = CrossAttention(c.width, c.heads)
        self.read_sensors = CrossAttention(c.width, c.heads)
        self.ground = nn.Linear(c.width, c.grounded_tokens)
        self.merge_camera = nn.Linear(c.merge * c.width, width)
        self.merge_lidar = nn.Linear(c.merge * c.width, width) if rig.lidar else None
        self.enter_radar = nn.Linear(c.width, width) if rig.radar else None
        self.enter_grounded = nn.Linear(c.width, width)
        self.places = (*self.vision.counts, *((c.lidar_tokens,) if rig.lidar else ()))
        self.squeeze = nn.Linear(c.width, c.gist)
        self.gists = nn.ModuleList(nn.Linear(n * c.gist, width) for n in self.places)
        # What is small reaches the ego token in two layers: a signal's lamp took 300,000 decisions by way of the
        # tokens, and a person was never found.
        self.glance = nn.Sequential(
            nn.Linear(sum(self.vision.counts) * EXTREMES + (self.lidar.glimpses if self.lidar else 0), c.glance),
            nn.GELU(approximate="tanh"),
            nn.Linear(c.glance, width),
        )
        if any(n % c.merge for n in (*self.vision.counts, c.lidar_tokens)):
            raise ValueError(
                f"cameras of {self.vision.counts} tokens or {c.lidar_tokens} of LiDAR: no multiples of {c.merge}"
            )
        self.counts = self._counts()
        gists = len(self.places)
        owner = torch.cat([_owners(self.counts[: -2 - gists]), torch.arange(gists)])
        self.register_buffer("owner", owner, persistent=False)
        self.kind = nn.Parameter(torch.randn(sum(self.counts), width) * 0.02)

    def _counts(self) -> tuple[int, ...]:
        """Return tokens a frame of each sensor, then gists, grounded and ego."""
        c = self.config
        ranging = (c.lidar_tokens // c.merge,) * (self.lidar is not None) + (c.radar_tokens,) * (self.radar is not None)
        gists = (1,) * len(self.places)
        return (*(n // c.merge for n in self.vision.counts), *ranging, *gists, c.grounded_tokens, 1)

    def forward(
        self, frames: dict[str, Tensor], cameras: dict[str, Tensor], present: Bool[Tensor, "B T S"], words: Words
    ) -> tuple[Float[Tensor, "B T N D"], Bool[Tensor, "B T N"]]:
        """Return frame tokens and which of them exist.

        Args:
            frames: `lidar`, `radar`, `radar_valid` (where mounted), `ego` and `passed`, each `[B, T, ...]`.
            cameras: Images per camera, `[B, T, H, W, 3]`.
            present: Sensors that are there.
            words: The sentence, one per sequence.
        """
        batch, steps = present.shape[:2]
        sensors, seen, glimpses = self._sense(frames, cameras, present)
        told = self._read(sensors, words, batch)
        sensors = sensors + told
        grounded = self._ground(sensors, seen, words, batch)
        tokens = torch.cat([*self._merged(sensors), self._gists(sensors), self.enter_grounded(grounded)], dim=1)
        ego = self.ego(frames["ego"].flatten(0, 1), frames["passed"].flatten(), present.flatten(0, 1))
        ego = ego + self.glance(glimpses)[:, None]
        tokens = torch.cat([tokens, ego.to(tokens.dtype)], dim=1) + self.kind
        key = present[..., self.owner]
        always = key.new_ones(batch, steps, self.config.grounded_tokens + 1)
        return tokens.unflatten(0, (batch, steps)), torch.cat([key, always], dim=-1)

    @torch.no_grad()
    def maps(
        self, frames: dict[str, Tensor], cameras: dict[str, Tensor], present: Bool[Tensor, "B T S"], words: Words
    ) -> Maps:
        """Return both cross-modal attention maps, averaged over heads."""
        batch, steps = present.shape[:2]
        sensors, seen, _ = self._sense(frames, cameras, present)
        asked = self.norm_sensors(sensors).unflatten(0, (batch, steps)).flatten(1, 2)
        to_words = self.read_words.map(asked, self.norm_words(words.states), words.mask).unflatten(1, (steps, -1))
        sensors = sensors + self._read(sensors, words, batch)
        spread = self.norm_words(words.states).repeat_interleave(steps, 0)
        to_sensors = self.read_sensors.map(spread, self.norm_sensors(sensors), seen).unflatten(0, (batch, steps))
        return Maps(to_words.float(), to_sensors.float())

    def _sense(
        self, frames: dict[str, Tensor], cameras: dict[str, Tensor], present: Bool[Tensor, "B T S"]
    ) -> tuple[Float[Tensor, "BT L D"], Bool[Tensor, "BT L"], Float[Tensor, "BT G"]]:
        """Return the encoders' tokens of every frame, which may be looked at (never none), and what is glanced at.

        A glance takes in all patches' extremes, the nearest obstacle of each LiDAR column and of each arc the car may
        take; 0 where a sensor is missing.
        """
        flat = {name: value.flatten(0, 1) for name, value in frames.items()}
        alive = present.flatten(0, 1)
        views = len(self.vision.names)
        tokens, extremes = self.vision({n: image.flatten(0, 1) for n, image in cameras.items()}, alive[:, :views])
        parts, glimpses = [tokens], [extremes.flatten(1)]
        counts = list(self.vision.counts)
        if self.lidar is not None:
            parts.append(self.lidar(flat["lidar"]))
            glimpses.append((self.lidar.glance(flat["lidar"]) * alive[:, views, None]).to(extremes.dtype))
            counts.append(self.config.lidar_tokens)
        if self.radar is not None:
            parts.append(self.radar(flat["radar"], flat["radar_valid"], flat["ego"][:, 0]))
            counts.append(self.config.radar_tokens)
        seen = alive[:, _owners(counts).to(alive.device)]
        # A frame without any sensor still has to attend to something; its grounded tokens then mean little.
        seen = seen | ~alive.any(-1, keepdim=True)
        return torch.cat([p.to(tokens.dtype) for p in parts], dim=1), seen, torch.cat(glimpses, dim=1)

    def _read(self, sensors: Float[Tensor, "BT L D"], words: Words, batch: int) -> Float[Tensor, "BT L D"]:
        """Return what each sensor token reads in the sentence."""
        asked = self.norm_sensors(sensors).unflatten(0, (batch, -1)).flatten(1, 2)
        told = self.read_words(asked, self.norm_words(words.states), words.mask)
        return told.reshape(sensors.shape)

    def _ground(
        self, sensors: Float[Tensor, "BT L D"], seen: Bool[Tensor, "BT L"], words: Words, batch: int
    ) -> Float[Tensor, "BT G D"]:
        """Let the words look at the frame, and gather what they found by learned weights over words."""
        steps = len(sensors) // batch
        normed = self.norm_words(words.states)
        found = self.read_sensors(normed.repeat_interleave(steps, 0), self.norm_sensors(sensors), seen)
        share = self.ground(normed).float().masked_fill(~words.mask[..., None], float("-inf")).softmax(1)
        share = share.transpose(1, 2).repeat_interleave(steps, 0).to(found.dtype)
        return share @ (found + words.states.repeat_interleave(steps, 0).to(found.dtype))

    def _gists(self, sensors: Float[Tensor, "BT L D"]) -> Float[Tensor, "BT G width"]:
        """Return one token per camera and LiDAR that knows every place in it by its own weights.

        Where a lane's edge lies is a sum over places: a dense layer finds it in a few thousand examples, attention
        takes far more.
        """
        parts = self.squeeze(sensors[:, : sum(self.places)]).split(self.places, dim=1)
        return torch.stack([layer(part.flatten(1)) for layer, part in zip(self.gists, parts, strict=True)], dim=1)

    def _merged(self, sensors: Float[Tensor, "BT L D"]) -> list[Tensor]:
        """Return the decoder's tokens of cameras, LiDAR and radar."""
        merge, pixels = self.config.merge, sum(self.vision.counts)
        parts = [self.merge_camera(sensors[:, :pixels].unflatten(1, (-1, merge)).flatten(2))]
        if self.merge_lidar is not None:
            end = pixels + self.config.lidar_tokens
            parts.append(self.merge_lidar(sensors[:, pixels:end].unflatten(1, (-1, merge)).flatten(2)))
            pixels = end
        if self.enter_radar is not None:
            parts.append(self.enter_radar(sensors[:, pixels:]))
        return parts


def _owners(counts: Sequence[int]) -> Int[Tensor, " L"]:
    """Return which sensor each token belongs to."""
    return torch.tensor([index for index, count in enumerate(counts) for _ in range(count)])
