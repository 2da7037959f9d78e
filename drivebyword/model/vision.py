"""Camera images to tokens: a small vision transformer shared by all cameras.

In: uint8 images per camera. Out: tokens in reading order, camera after camera. A stem of overlapping convolutions
(Xiao et al., "Early convolutions help transformers see better", 2021) finds small things wherever they lie in a
patch: a signal's lamp is two pixels. Cameras look at each other in the blocks; a missing camera is seen by nobody
but itself.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.records import CameraConfig
from drivebyword.model.layers import EncoderBlock, as_bias

CELL = 8
"""Pixels a side of what the stem makes one feature vector of."""
PATCH = 16


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
        sizes = (3, stem // 2, stem, 2 * stem)
        self.stem = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(sizes))
        self.patch = nn.Linear(2 * stem * (PATCH // CELL) ** 2, width)
        # One learned place per patch of every camera says both which camera and where.
        self.place = nn.Parameter(torch.randn(sum(self.counts), width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, hidden) for _ in range(layers))
        camera_of = torch.tensor([index for index, count in enumerate(self.counts) for _ in range(count)])
        self.register_buffer("camera_of", camera_of, persistent=False)

    def forward(
        self, images: dict[str, UInt8[Tensor, "B H W 3"]], present: Bool[Tensor, "B V"]
    ) -> Float[Tensor, "B L D"]:
        """Return the tokens of all cameras of B frames."""
        cells = torch.cat([self._cells(images[name]) for name in self.names], dim=1)
        x = self.patch(cells) + self.place
        token_present = present[:, self.camera_of]
        mask = token_present[:, None, :] | (self.camera_of[:, None] == self.camera_of[None, :])
        bias = as_bias(mask)
        for block in self.blocks:
            x = block(x, bias)
        return x

    def _cells(self, image: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B L features"]:
        """Return what the stem finds in each patch of one camera."""
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        for convolution in self.stem:
            x = F.gelu(convolution(x), approximate="tanh")
        return F.pixel_unshuffle(x, PATCH // CELL).flatten(2).transpose(1, 2)
