import hashlib
import io
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from wsol_core.core.errors import InputError
from wsol_core.data import images
from wsol_core.data.images import decode, decode_squashed, displayed_size, inspect

GRADIENT = np.stack(np.meshgrid(np.arange(0, 240, 40), np.arange(0, 250, 50)), axis=-1).astype(np.uint8)
COLOURS = np.concatenate([GRADIENT, np.full((5, 6, 1), 77, np.uint8)], axis=2)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "misnamed.jpg"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, name: str) -> None:
    special: dict[str, dict[str, Any]] = {"a.webp": {"lossless": True}, "misnamed.jpg": {"format": "PNG"}}
    path = save(tmp_path / name, Image.fromarray(COLOURS), **special.get(name, {}))
    np.testing.assert_array_equal(decode(path), COLOURS)
    assert decode(path).flags.writeable


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, COLOURS),
        (2, COLOURS[:, ::-1]),
        (3, COLOURS[::-1, ::-1]),
        (4, COLOURS[::-1]),
        (5, COLOURS.transpose(1, 0, 2)),
        (6, np.rot90(COLOURS, -1)),
        (7, COLOURS[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(COLOURS)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, expected: np.ndarray, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(COLOURS), exif=exif)
    np.testing.assert_array_equal(decode(path), expected)
    assert inspect(path)[:2] == displayed_size(path) == (expected.shape[1], expected.shape[0])


def test_rotated_jpeg_is_squashed_upright(tmp_path: Path) -> None:
    half = np.zeros((400, 600, 3), np.uint8)
    half[:, :300] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", Image.fromarray(half), exif=exif, quality=95)
    small = decode_squashed(path, 30, 20, "bilinear")
    assert small.shape == (30, 20, 3)
    assert small[:14].min() > 240
    assert small[16:].max() < 15


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(path), COLOURS)


def test_grayscale_and_one_bit(tmp_path: Path) -> None:
    gray = COLOURS[..., 0]
    np.testing.assert_array_equal(decode(save(tmp_path / "l.png", Image.fromarray(gray))), gray[..., None].repeat(3, 2))
    bits = decode(save(tmp_path / "b.png", Image.fromarray(gray > 100)))
    np.testing.assert_array_equal(bits[..., 1], np.where(gray > 100, 255, 0))


def test_cmyk(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (16, 8), (255, 0, 0, 0))
    np.testing.assert_array_equal(decode(save(tmp_path / "a.tif", picture)), np.full((8, 16, 3), (0, 255, 255)))
    jpeg = decode(save(tmp_path / "a.jpg", picture, quality=95)).astype(int)
    assert np.abs(jpeg - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (3, 1), (100, 255) if mode == "LA" else (100, 100, 100, 255))
    picture.putpixel((1, 0), (100, 0) if mode == "LA" else (100, 100, 100, 0))
    picture.putpixel((2, 0), (100, 51) if mode == "LA" else (100, 100, 100, 51))
    shown = decode(save(tmp_path / "a.png", picture))
    assert shown[0, 0].tolist() == [100] * 3
    assert shown[0, 1].tolist() == [255] * 3
    assert abs(int(shown[0, 2, 0]) - 224) <= 1


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    assert decode(save(tmp_path / "a.png", picture)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decode(save(tmp_path / "b.png", picture, transparency=0)).tolist() == [[[255] * 3, [200, 100, 50]]]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    shown = decode(save(tmp_path / f"a.{suffix}", Image.fromarray(levels)))
    np.testing.assert_array_equal(shown[..., 0], [[0, 0, 1, 128, 255]])
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("webp", {"lossless": True}), ("png", {})])
def test_animation_gives_its_first_frame(tmp_path: Path, suffix: str, options: dict[str, bool]) -> None:
    frames = [Image.new("RGB", (8, 4), colour) for colour in ("red", "lime", "blue")]
    path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 3
    np.testing.assert_array_equal(decode(path), np.full((4, 8, 3), (255, 0, 0)))


def test_squash_is_antialiased_and_reads_large_jpegs_like_small_ones(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), 32)[None, :, None].repeat(64, 0).repeat(3, 2)
    small = decode_squashed(save(tmp_path / "a.png", Image.fromarray(stripes)), 8, 4, "bilinear")
    assert small.shape == (8, 4, 3)
    assert np.abs(small.astype(int) - 127).max() < 10
    smooth = np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    large = Image.fromarray(smooth).resize((1600, 1200), Image.Resampling.BICUBIC)
    drafted = decode_squashed(save(tmp_path / "b.jpg", large, quality=95, subsampling=0), 100, 100, "bicubic")
    whole = np.asarray(large.resize((100, 100), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(drafted - whole).mean() < 1.5


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deeper_levels_count_as_of_the_smallest_usual_depth(tmp_path: Path, depth: int, suffix: str) -> None:
    levels = np.array([[0, 1 << (depth - 1), (1 << depth) - 1]], dtype=np.uint16)
    shown = decode(save(tmp_path / f"a.{suffix}", Image.fromarray(levels)))
    assert shown[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_colour_of_twelve_bits_in_sixteen(tmp_path: Path, suffix: str, bands: int) -> None:
    levels = np.zeros((4, 6, bands), np.uint16)
    levels[..., :3] = (4095, 2048, 16)  # blue, green, red, as OpenCV writes them
    levels[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), levels)
    assert np.unique(decode(tmp_path / f"a.{suffix}").reshape(-1, 3), axis=0).tolist() == [[1, 128, 255]]


@pytest.mark.parametrize(
    ("levels", "expected"), [([0, 0.5, 1], [0, 128, 255]), ([0, 0.4, 200], [0, 0, 200]), ([0, 0, 0], [0, 0, 0])]
)
def test_floats_are_shares_up_to_one_and_levels_up_to_255(
    tmp_path: Path, levels: list[float], expected: list[int]
) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([levels], dtype=np.float32)))
    assert decode(path)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("level", [-0.5, 256, float("nan"), float("inf")])
def test_other_floats_are_refused(tmp_path: Path, level: float) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0.5, level]], dtype=np.float32)))
    assert inspect(path).problem == "floats that are not finite or not in [0, 255]"


@pytest.mark.parametrize("level", [-1, 65536])
def test_other_integers_are_refused(tmp_path: Path, level: int) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[5, level]], dtype=np.int32)))
    assert inspect(path).problem == "integers outside [0, 65535]"


def tiff(bands: int, bits: int, form: int) -> bytes:
    """An uncompressed TIFF of 2 x 2 zeros of any kind."""
    data = bytes(4 * bands * bits // 8)
    tags = [(256, 4, 2), (257, 4, 2), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, bands)]
    tags += [(278, 4, 2), (279, 4, len(data)), (339, 3, form)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_that_is_not_read_is_called_by_what_it_holds(tmp_path: Path) -> None:
    for kind, words in (
        ((5, 8, 1), "5 bands of 8-bit integers"), ((3, 32, 3), "3 bands of 32-bit floats"),
        ((7, 16, 2), "7 bands of 16-bit signed integers"),
    ):  # fmt: skip
        (tmp_path / "a.tif").write_bytes(tiff(*kind))
        assert inspect(tmp_path / "a.tif").problem == f"TIFF of {words}, which is not read"
    assert inspect(tmp_path / "a.tif").digest
    (tmp_path / "a.tif").write_bytes(tiff(5, 8, 1)[:30])
    assert inspect(tmp_path / "a.tif").problem == "truncated"


def test_megabytes_of_text_do_not_hide_a_picture(tmp_path: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_itxt("XML:com.adobe.xmp", "x" * 1_800_000, zip=True)
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS), pnginfo=about)
    np.testing.assert_array_equal(decode(path), COLOURS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_formats_are_known_by_their_first_bytes_and_read(tmp_path: Path, form: str) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "photo", form)
    assert images.is_image_file(tmp_path / "photo")
    assert inspect(tmp_path / "photo").problem is None


@pytest.mark.parametrize("text", [b"", b"BMW", b"P1 is first", b"II", b"RIFF0000WAVE", b"%PDF-1.4"])
def test_other_files_are_no_images(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "notes").write_bytes(text)
    assert not images.is_image_file(tmp_path / "notes")
    (tmp_path / "notes.JFIF").write_bytes(text)
    assert images.is_image_file(tmp_path / "notes.JFIF")


def test_heic_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_formats", lambda: images._FORMATS)
    (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert images.is_image_file(tmp_path / "photo")
    assert inspect(tmp_path / "photo").problem == "HEIC picture (`make setup EXTRAS=dev,heic` installs what reads it)"


def test_heic_with_its_extra_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new("RGB", (64, 48), (200, 10, 10)).save(tmp_path / "photo", "HEIF")
    assert inspect(tmp_path / "photo")[:2] == (64, 48)
    assert np.abs(decode(tmp_path / "photo").astype(int) - (200, 10, 10)).max() < 8


def test_one_pixel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3)))
    assert decode(path).tolist() == [[[1, 2, 3]]]
    np.testing.assert_array_equal(decode_squashed(path, 3, 2, "bicubic"), np.full((3, 2, 3), (1, 2, 3)))


def encoded(suffix: str) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, suffix)
    return stream.getvalue()


@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated(tmp_path: Path, suffix: str, part: float) -> None:
    content = encoded(suffix)
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: int(len(content) * part)])
    look = inspect(path)
    assert look == (0, 0, hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), "truncated")
    with pytest.raises(InputError, match=r"a\.jpg: truncated"):
        decode(path)


def test_bad_files_have_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    assert inspect(path).problem == "zero bytes"
    path.write_text("<html>404</html>")
    assert inspect(path).problem == "not an image"
    assert inspect(tmp_path).problem == "unreadable"
    assert inspect(tmp_path / "none.jpg").problem == "unreadable"


def test_larger_images_than_max_pixels_are_refused_by_whoever_sets_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("PNG"))
    assert inspect(path, 64 * 80).problem is None
    assert inspect(path, 64 * 80 - 1).problem == "larger than max_pixels"
    assert decode(path).shape == (64, 80, 3)
    with pytest.raises(InputError, match="larger than max_pixels"):
        decode(path, 64 * 80 - 1)
    with pytest.raises(InputError, match="larger than max_pixels"):
        decode_squashed(path, 4, 4, "bilinear", 64 * 80 - 1)


def test_max_pixels_goes_beyond_the_library_s_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 80 // 3)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert inspect(path, 64 * 80) == (80, 64, hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), None)
    assert Image.MAX_IMAGE_PIXELS == 64 * 80 // 3


@pytest.mark.parametrize("side", [9_500, 60_000])
def test_a_real_bomb_is_an_error_between_the_library_s_warning_and_its_error(tmp_path: Path, side: int) -> None:
    header = b"P4 %d %d\n" % (side, side)
    path = tmp_path / "a.ppm"
    path.write_bytes(header)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert inspect(path).problem == "larger than max_pixels"
        assert displayed_size(path) == (side, side)


@pytest.mark.parametrize(("content", "reason"), [(b"", "zero bytes"), (b"404", "not an image"), (None, "missing")])
def test_what_is_no_image_has_no_size(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.jpg: not a readable image \({reason}\)"):
        displayed_size(tmp_path / "a.jpg")


def test_global_state_of_the_library_is_left_alone(tmp_path: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    inspect(save(tmp_path / "a.png", Image.fromarray(COLOURS)))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_inspect_gives_size_and_digest(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(COLOURS))
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert inspect(path) == (6, 5, digest, None)
    assert images.digest_only(path) == (0, 0, digest, None)
