"""Pixels: bit-equal to the release on RGB, and decided on purpose for every other kind of image."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from tests.conftest import GOLDEN, golden, made_array, made_image
from xverse_v.model import XverseVImageProcessor
from xverse_v.model.image_processing import normalise
from xverse_v.model.tiling import Grid

CASES = golden("tiling_pixels")["cases"]
RELEASE = {"orientation": "release", "apply_exif": False}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['kind']}-{c['w']}x{c['h']}")
def test_pixels_equal_the_recordings_by_hash(case):
    array = made_array(case["kind"], case["w"], case["h"], case["seed"])
    assert hashlib.sha256(array.tobytes()).hexdigest() == case["input_sha256"]
    out = XverseVImageProcessor(**RELEASE)(Image.fromarray(array), return_tensors="np")
    assert out["pixel_values"].shape == tuple(case["shape"])
    assert out["num_views"].tolist() == [case["shape"][0]]
    assert hashlib.sha256(out["pixel_values"].tobytes()).hexdigest() == case["sha256"]


def test_recorded_samples_are_the_same_images():
    samples = np.load(GOLDEN / "tiling_pixels_sub28.npz")
    case = CASES[0]
    out = XverseVImageProcessor(**RELEASE)(made_image(case["kind"], case["w"], case["h"], case["seed"]))
    assert np.array_equal(out["pixel_values"][:, :, ::28, ::28], samples[samples.files[0]])


def test_look_up_equals_the_three_float32_steps():
    view = made_image("noise", 224, 224, 1)
    mean, std = (0.1, 0.2, 0.3), (0.9, 0.8, 0.7)
    pixels = np.asarray(view).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    column = np.array([mean, std], dtype=np.float32)[:, :, None, None]
    assert np.array_equal(normalise([view], mean, std)[0], (pixels - column[0]) / column[1])


def test_a_batch_is_its_images_one_after_another():
    images = [made_image("wave", 672, 448, 1), made_image("noise", 50, 60, 2), made_image("wave", 500, 500, 3)]
    processor = XverseVImageProcessor()
    together = processor(images, return_tensors="np")
    assert together["num_views"].tolist() == [7, 1, 5]
    alone = [processor(image, return_tensors="np")["pixel_values"] for image in images]
    assert np.array_equal(together["pixel_values"], np.concatenate(alone))


def test_views_are_the_pixels_that_are_normalised():
    image, processor = made_image("wave", 700, 300, 5), XverseVImageProcessor()
    views = processor.views(image)
    pixel_values = processor(image, return_tensors="np")["pixel_values"]
    assert np.array_equal(normalise(views, tuple(processor.image_mean), tuple(processor.image_std)), pixel_values)


def test_max_tiles_of_one_call():
    image, processor = made_image("wave", 700, 700, 5), XverseVImageProcessor()
    assert [processor(image, max_tiles=n)["num_views"][0] for n in (9, 4, 2, 1)] == [10, 5, 1, 1]
    assert processor.max_tiles == 9


def only_pixel(image: Image.Image, **settings) -> tuple[int, ...]:
    return XverseVImageProcessor(**settings).to_rgb(image).getpixel((0, 0))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("I;16", (2, 2), 65535), (255, 255, 255)),
        (Image.new("I;16", (2, 2), 32896), (128, 128, 128)),
        (Image.new("I;16", (2, 2), 200), (1, 1, 1)),
        (Image.new("I", (2, 2), 65535), (255, 255, 255)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("RGBA", (2, 2), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (2, 2), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("LA", (2, 2), (0, 0)), (255, 255, 255)),
        (Image.new("YCbCr", (2, 2), (255, 128, 128)), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_the_rgb_a_person_sees(image, expected):
    assert only_pixel(image) == expected


def test_transparent_palette_and_background():
    image = Image.new("P", (2, 2), 3)
    image.info["transparency"] = 3
    assert only_pixel(image, background=(1, 2, 3)) == (1, 2, 3)


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="mode F"):
        XverseVImageProcessor().to_rgb(Image.new("F", (2, 2)))


def exif_image() -> Image.Image:
    image = Image.new("RGB", (40, 20))
    image.getexif()[0x0112] = 6
    return image


def test_exif_turns_only_when_asked():
    assert XverseVImageProcessor(apply_exif=True).to_rgb(exif_image()).size == (20, 40)
    assert XverseVImageProcessor(apply_exif=False).to_rgb(exif_image()).size == (40, 20)


def test_a_new_processor_is_upright_and_turns_by_exif():
    """The release's way round is what a converted folder asks for; who makes a processor anew gets the right one."""
    processor = XverseVImageProcessor()
    assert processor.grid(672, 448) == Grid(rows=2, columns=3)
    assert processor.to_rgb(exif_image()).size == (20, 40)


def test_arrays_both_ways_round_and_floats_refused():
    array, processor = made_array("noise", 30, 20, 7), XverseVImageProcessor()
    first = processor(array, return_tensors="np")["pixel_values"]
    assert np.array_equal(first, processor(array.transpose(2, 0, 1), return_tensors="np")["pixel_values"])
    with pytest.raises(ValueError, match="uint8, got float"):
        processor(array.astype(np.float32))


def test_views_can_be_counted_from_the_size_alone():
    processor = XverseVImageProcessor(orientation="release")
    for width, height in ((672, 448), (1, 1), (3000, 50)):
        counted = processor.get_number_of_image_patches(height, width)
        assert counted == processor(Image.new("RGB", (width, height)))["num_views"][0]
