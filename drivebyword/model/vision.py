"""Camera images to tokens: a small vision transformer shared by all cameras.

In: uint8 images per camera. Out: tokens in reading order, camera after camera. A two-stage stem keeps small
things (a signal head is a few pixels): 4x4 pixels -> features -> 16x16 patches; nothing overlaps, so the stem is
two matrix products. Cameras look at each other in the blocks; a missing camera is seen by nobody but itself.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.records import CameraConfig
from drivebyword.model.layers import EncoderBlock, as_bias

FINE = 4
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
        self.fine = nn.Linear(FINE * FINE * 3, stem)
        self.patch = nn.Linear(stem * (PATCH // FINE) ** 2, width)
        # One learned place per patch of every camera says both which camera and where.
        self.place = nn.Parameter(torch.randn(sum(self.counts), width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, hidden) for _ in range(layers))
        camera_of = torch.tensor([index for index, count in enumerate(self.counts) for _ in range(count)])
        self.register_buffer("camera_of", camera_of, persistent=False)

    def forward(
        self, images: dict[str, UInt8[Tensor, "B H W 3"]], present: Bool[Tensor, "B V"]
    ) -> Float[Tensor, "B L D"]:
        """Return the tokens of all cameras of B frames."""
        fine = [self._fine(images[name]) for name in self.names]
        x = self.patch(F.gelu(self.fine(torch.cat(fine, dim=1)), approximate="tanh").flatten(2)) + self.place
        token_present = present[:, self.camera_of]
        mask = token_present[:, None, :] | (self.camera_of[:, None] == self.camera_of[None, :])
        bias = as_bias(mask)
        for block in self.blocks:
            x = block(x, bias)
        return x

    def _fine(self, image: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B L fine pixels"]:
        """Cut an image into patches of 4x4-pixel cells, scaled to [-1, 1]."""
        cells = PATCH // FINE
        batch, height, width, _ = image.shape
        rows, columns = height // PATCH, width // PATCH
        cut = image.reshape(batch, rows, cells, FINE, columns, cells, FINE, 3)
        cut = cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, rows * columns, cells * cells, FINE * FINE * 3)
        return cut.float() / 127.5 - 1.0
