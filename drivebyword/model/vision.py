"""Camera images to tokens: a small vision transformer shared by all cameras.

In: uint8 images per camera. Out: tokens in reading order, camera after camera. A two-stage stem keeps small
things: 4x4 pixels -> features -> 16x16 patches; nothing overlaps, so the stem is two matrix products. What is
smaller still and may be anywhere in a patch (a lamp is three pixels) enters by the patch's extremes: its reddest,
greenest, yellowest, brightest and darkest pixel. Cameras look at each other in the blocks; a missing camera is seen
by nobody but itself.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.rig import CameraConfig
from drivebyword.model.attention import as_bias
from drivebyword.model.layers import EncoderBlock

FINE = 4
PATCH = 16
EXTREMES = 5
"""Values a patch's extremes have."""


class Vision(nn.Module):
    """Images of all cameras to one row of tokens."""

    camera_of: Tensor

    def __init__(
        self, cameras: tuple[CameraConfig, ...], *, width: int, layers: int, heads: int, hidden: int, stem: int
    ) -> None:
        super().__init__()
        for camera in cameras:
            if camera.width % PATCH or camera.height % PATCH:
                raise ValueError(
                    f"camera {camera.name!r} is {camera.width}x{camera.height}: both must be multiples of {PATCH}"
                )
        self.names = tuple(camera.name for camera in cameras)
        self.grids = tuple((camera.height // PATCH, camera.width // PATCH) for camera in cameras)
        self.counts = tuple(rows * columns for rows, columns in self.grids)
        self.fine = nn.Linear(FINE * FINE * 3, stem)
        self.patch = nn.Linear(stem * (PATCH // FINE) ** 2 + EXTREMES, width)
        # One learned place per patch of every camera says both which camera and where.
        self.place = nn.Parameter(torch.randn(sum(self.counts), width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, hidden) for _ in range(layers))
        camera_of = torch.tensor([index for index, count in enumerate(self.counts) for _ in range(count)])
        self.register_buffer("camera_of", camera_of, persistent=False)

    def forward(
        self, images: dict[str, UInt8[Tensor, "B H W 3"]], present: Bool[Tensor, "B V"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L E"]]:
        """Return the tokens of all cameras of B frames, and each patch's extremes (0 where a camera is missing)."""
        patches = torch.cat([_patches(images[name]) for name in self.names], dim=1)
        fine = F.gelu(self.fine(_cells(patches)), approximate="tanh")
        extremes = _extremes(patches).to(fine.dtype)
        x = self.patch(torch.cat([fine.flatten(2), extremes], dim=-1)) + self.place
        token_present = present[:, self.camera_of]
        mask = token_present[:, None, :] | (self.camera_of[:, None] == self.camera_of[None, :])
        bias = as_bias(mask)
        for block in self.blocks:
            x = block(x, bias)
        return x, extremes * token_present[..., None]


def _patches(image: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B L rows columns 3"]:
    """Cut an image into patches, scaled to [-1, 1]."""
    batch, height, width, _ = image.shape
    cut = image.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, 3).transpose(2, 3)
    return cut.reshape(batch, -1, PATCH, PATCH, 3).float() / 127.5 - 1.0


def _cells(patches: Float[Tensor, "B L rows columns 3"]) -> Float[Tensor, "B L cells pixels"]:
    """Cut patches into cells of 4x4 pixels."""
    cells = PATCH // FINE
    cut = patches.unflatten(2, (cells, FINE)).unflatten(4, (cells, FINE)).transpose(3, 4)
    return cut.reshape(*patches.shape[:2], cells * cells, FINE * FINE * 3)


def _extremes(patches: Float[Tensor, "B L rows columns 3"]) -> Float[Tensor, "B L E"]:
    """Return how red, green and yellow, how bright and how dark the pixel is that is it most."""
    red, green, blue = patches.flatten(2, 3).unbind(-1)
    most = (red - torch.maximum(green, blue), green - red, torch.minimum(red, green) - blue, green, -green)
    return torch.stack([value.amax(2) for value in most], dim=-1) * 2.0
