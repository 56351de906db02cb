"""Videos: lossless masks, times, resume, unreadable files."""

import csv
import sys
from fractions import Fraction

import numpy as np
import pytest

from atrous.errors import ConfigError, DataError
from atrous.prediction import predict
from atrous.prediction.video import Frame, VideoReader, open_video

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'atrous[video]'")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def draw(index, width=64, height=48):
    """Return a red image with a blue part that grows with the index."""
    pixels = np.full((height, width, 3), RED, np.uint8)
    pixels[:, : 8 * (index + 1)] = BLUE
    return pixels


def save_clip(path, num_frames=6, rate=10, size=(64, 48), times_s=None):
    with open_video(path, Fraction(rate)) as video:
        for index in range(num_frames):
            video.write(draw(index, *size), times_s[index] if times_s else index / rate)
    return path


def read_clip(path, form):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format=form) for frame in frames], [float(f.time) for f in frames]


def test_masks_are_exact_and_overlays_play_at_the_same_times(color_model, tmp_path):
    clip = save_clip(tmp_path / "clip.mp4", times_s=[0, 0.1, 0.2, 0.5, 0.6, 0.9])
    progress = []
    report = predict(
        color_model, clip, tmp_path / "out", save=["mask", "overlay", "confidence"],
        progress=lambda *at: progress.append(at),
    )  # fmt: skip
    assert [path.name for path in report.written] == [
        "clip_mask.mkv", "clip_overlay.mp4", "clip_confidence.mkv",
    ]  # fmt: skip
    assert progress == [(index, 6) for index in range(1, 7)]
    masks, times_s = read_clip(tmp_path / "out/clip_mask.mkv", "gray")
    assert times_s == pytest.approx([0, 0.1, 0.2, 0.5, 0.6, 0.9], abs=2e-3)
    for index, mask in enumerate(masks):
        assert mask.shape == (48, 64)
        assert set(np.unique(mask)) == {0, 2}, "classes are kept without loss"
        assert (mask == 2).mean() == pytest.approx((index + 1) / 8, abs=0.02)
    overlays, overlay_times_s = read_clip(tmp_path / "out/clip_overlay.mp4", "rgb24")
    assert overlay_times_s == pytest.approx(times_s, abs=2e-3)
    assert overlays[0].shape[0] > 48, "the legend lies below"
    assert len({frame.shape for frame in overlays}) == 1


def test_frames_as_images_and_a_table_of_shares(color_model, tmp_path):
    clip = save_clip(tmp_path / "clip.mp4", 3)
    predict(color_model, clip, tmp_path / "out", save=["mask", "rle", "shares"], frames=True)
    names = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    }
    frames = {f"clip/00000{index}{end}" for index in range(3) for end in (".png", "_rle.json")}
    assert names == frames | {"clip", "clip_shares.csv", "predictions.jsonl"}
    with open(tmp_path / "out/clip_shares.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert float(rows[2]["blue"]) == pytest.approx(3 / 8, abs=0.02)


def test_odd_sizes_are_played_and_kept(color_model, tmp_path):
    source = tmp_path / "odd.mp4"
    save_clip(source, 2, size=(51, 37))  # H.264 made it 52 by 38
    predict(color_model, source, tmp_path / "out")
    masks, _ = read_clip(tmp_path / "out/odd_mask.mkv", "gray")
    assert [mask.shape for mask in masks] == [(38, 52)] * 2


def test_frames_are_turned_upright():
    class Raw:
        rotation = -90

        def to_ndarray(self, format):
            return np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    upright = Frame(0, 0.0, Raw()).convert()
    assert upright.shape == (4, 2, 3)
    assert upright[0, 1].tolist() == [0, 1, 2], "the first row is the last column"


def test_a_clip_that_is_done_is_not_done_again(color_model, tmp_path):
    clip = save_clip(tmp_path / "clip.mp4", 2)
    first = predict(color_model, clip, tmp_path / "out")
    again = predict(color_model, clip, tmp_path / "out", resume=True)
    assert (first.num_frames, again.num_frames, again.resumed) == (2, 0, [str(clip)])
    save_clip(clip, 3)
    assert predict(color_model, clip, tmp_path / "out", resume=True).num_frames == 3


def test_bad_clips_are_skipped_and_leave_nothing_half_written(color_model, tmp_path):
    good = save_clip(tmp_path / "good.mp4", 2)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:400])
    words = tmp_path / "words.mkv"
    words.write_text("no video")
    empty = tmp_path / "empty.avi"
    empty.touch()
    report = predict(color_model, [cut, words, empty, good], tmp_path / "out")
    assert [source for source, _ in report.failed] == [str(cut), str(words), str(empty)]
    assert all("Cannot read" in reason for _, reason in report.failed)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"good_mask.mkv", "good_overlay.mp4", "predictions.jsonl"}


def test_a_stop_in_mid_clip_leaves_no_half_video(color_model, tmp_path):
    clip = save_clip(tmp_path / "clip.mp4")

    def stop(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(color_model, clip, tmp_path / "out", progress=stop)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"predictions.jsonl"}


def test_what_is_not_there_is_a_clear_error(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="Cannot read"):
        VideoReader(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mkv"), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="holds no video"):
        VideoReader(tmp_path / "sound.mkv")


def test_a_full_disk_is_an_error_and_no_file(tmp_path, monkeypatch):
    path = tmp_path / "clip.mkv"

    def fill_up():
        with open_video(path, Fraction(10)) as video:
            video.write(draw(0)[:, :, 0], 0.0)
            raise av.error.FFmpegError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fill_up()
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_the_error_says_what_to_install(color_model, tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    clip.touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'atrous\[video\]'"):
        predict(color_model, clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()
