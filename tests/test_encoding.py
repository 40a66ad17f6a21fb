"""The one door to the encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.encoding import VideoWriter
from pipeline.errors import OutputError


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    clip = tmp_path / "a.mp4"
    clip.symlink_to(full)
    rng = np.random.default_rng(1)
    writer = VideoWriter(clip, 96, 64, 8.0, gop=2)

    def write() -> None:
        for n in range(40):
            writer.write(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), n / 8)

    for _ in range(2):  # whoever goes on is told again: FFmpeg's muxer would end the process
        with pytest.raises(OutputError, match=r"cannot write .*a\.mp4"):
            write()
    writer.close()


def test_a_name_that_says_no_container_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        VideoWriter(tmp_path / "a.nothing", 96, 64, 8.0)
