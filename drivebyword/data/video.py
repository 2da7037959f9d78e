"""Images in, H.264 files out, and back: near-lossless, cheap to write, and joined without encoding again.

Chroma is not subsampled (yuv444p): a signal lamp may be two pixels wide. There are no B-frames, so frame k
of a file is packet k, and files join by counting; a key frame every few frames keeps random access cheap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

PIXEL_FORMAT = "yuv444p"
KEY_FRAME_EVERY = 5
_OPTIONS = {
    "crf": "14",
    "preset": "veryfast",
    "tune": "fastdecode",
    "g": str(KEY_FRAME_EVERY),
    "bf": "0",
    "sc_threshold": "0",
}


def write_video(path: Path, images: UInt8[np.ndarray, "T H W 3"], fps: int) -> None:
    """Encode RGB images to an mp4 file with one thread (recording runs one process per core)."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=_OPTIONS)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = PIXEL_FORMAT
        stream.codec_context.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def video_header(path: Path) -> str:
    """Return a digest of the decoder settings: files join only where it is equal."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        return hashlib.sha256(stream.codec_context.extradata or b"").hexdigest()[:16]


def join_videos(path: Path, sources: Iterable[tuple[Path, int]], fps: int) -> None:
    """Copy the packets of several files into one file, in order, without decoding.

    Args:
        path: The file to write.
        sources: Files and their frame counts.
        fps: Frames a second.
    """
    done = 0
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = None
        for source, frames in sources:
            with _opened(source) as container:
                template = container.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(template)
                    stream.time_base = Fraction(1, fps)
                before = done
                for packet in container.demux(template):
                    if packet.size == 0:
                        continue
                    copy = Packet(bytes(packet))
                    copy.time_base = Fraction(1, fps)
                    copy.pts = copy.dts = done
                    copy.duration = 1
                    copy.is_keyframe = packet.is_keyframe
                    copy.stream = stream
                    output.mux(copy)
                    done += 1
                if done - before != frames:
                    raise ValueError(f"{source}: holds {done - before} frames, {frames} were recorded: it is damaged")


def read_video(path: Path, out: UInt8[np.ndarray, "T H W 3"], start: int = 0) -> None:
    """Decode the frames `start`, `start + 1`, ... of a file into `out`, with one thread."""
    for index, image in enumerate(_frames(path, start, len(out))):
        if image.shape != out.shape[1:]:
            raise ValueError(f"{path}: images are {list(image.shape)}, expected {list(out.shape[1:])}")
        out[index] = image


def _frames(path: Path, start: int, count: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    # One reformatter for the file: a fresh one per frame costs more than the decoding.
    reformatter = VideoReformatter()
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = round(1 / (stream.average_rate * stream.time_base))
        if start:
            container.seek(start * ticks, stream=stream)
        found = 0
        try:
            for frame in container.decode(stream):
                if frame.pts < start * ticks:
                    continue
                yield reformatter.reformat(frame, format="rgb24").to_ndarray()
                found += 1
                if found == count:
                    return
        except av.FFmpegError as error:
            raise ValueError(f"{path}: cannot be decoded at frame {start + found} ({error}): it is damaged") from None
    raise ValueError(f"{path}: ends after frame {start + found}, {start + count} were recorded: it is truncated")


def _opened(path: Path) -> Any:
    try:
        return av.open(str(path))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: the data set is incomplete") from None
    except av.FFmpegError as error:
        raise ValueError(f"{path}: not a readable video ({error}): it is damaged") from None
