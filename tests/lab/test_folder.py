import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from softmaxes.lab import InputError, compare, tune
from softmaxes.lab import train as train_one
from softmaxes.lab.data import folder as folder_module
from softmaxes.lab.data.folder import load_folder
from softmaxes.lab.data.long_tail import long_tail

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def write_image(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def write_classes(root: Path, *names: str, count: int = 2) -> Path:
    for name in names:
        for index in range(count):
            write_image(root / name / f"{index}.png")
    return root


def load_one(tmp_path: Path, image: Image.Image, file: str = "0.png", size: int = 8, **options: object) -> np.ndarray:
    """How the loader shows one image, (size, size, 3)."""
    write_classes(tmp_path, "train/a", "train/b", "test/a", "test/b", count=1)
    (tmp_path / "train" / "a" / "0.png").unlink()
    image.save(tmp_path / "train" / "a" / file, **options)
    data = load_folder(tmp_path, image_size=size)
    return data.train_inputs[0].permute(1, 2, 0).numpy()


# Layouts


def test_classes_without_a_split_are_split_by_the_seed(tmp_path):
    for name in ("cat", "Dog"):
        for index in range(10):
            write_image(tmp_path / "pets" / name / f"{index}.png", (index * 10, 0, 0))
    data = load_folder(tmp_path / "pets", image_size=4)
    assert list(data.class_names) == ["Dog", "cat"]
    assert data.name == "pets"
    assert data.source == str(tmp_path / "pets")
    assert data.description == (
        "Images from folders, scaled and cropped to 4x4 pixels in colour, "
        "a share of 0.2 of each class held out as test images at seed 0."
    )
    assert data.train_inputs.shape == (16, 3, 4, 4)
    assert data.train_inputs.dtype == torch.uint8
    assert data.counts(data.test_labels).tolist() == [2, 2]
    assert data.group_names is None
    for label in (0, 1):  # every image is on one side
        shades = [
            images[labels == label][:, 0, 0, 0].tolist()
            for images, labels in ((data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels))
        ]
        assert sorted(shades[0] + shades[1]) == [index * 10 for index in range(10)]
    again = [load_folder(tmp_path / "pets", image_size=4, seed=seed).fingerprint for seed in (0, 1)]
    assert again[0] == data.fingerprint
    assert again[1] != data.fingerprint


@pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.5, 2), (0.99, 3)])
def test_each_class_keeps_an_image_on_either_side(tmp_path, share, held_out):
    data = load_folder(write_classes(tmp_path, "a", "b", count=4), test_share=share)
    assert data.counts(data.test_labels).tolist() == [held_out] * 2
    assert data.counts(data.train_labels).tolist() == [4 - held_out] * 2


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_a_split_in_folders_is_kept(tmp_path, test):
    write_image(tmp_path / "train" / "a" / "x.png", RED)
    write_image(tmp_path / "train" / "b" / "x.png", GREEN)
    write_image(tmp_path / test / "b" / "x.png", BLUE)
    write_image(tmp_path / test / "a" / "x.png", GREEN)
    data = load_folder(tmp_path)
    assert data.train_inputs[:, :, 0, 0].tolist() == [list(RED), list(GREEN)]
    assert data.test_inputs[:, :, 0, 0].tolist() == [list(GREEN), list(BLUE)]
    assert data.test_labels.tolist() == [0, 1]
    assert data.description.endswith(f", split as in train/ and {test}/.")


def test_a_validation_part_beside_train_and_test_is_held_out(tmp_path):
    for part, colour in (("train", RED), ("val", GREEN), ("test", BLUE)):
        for name in ("a", "b"):
            write_image(tmp_path / part / name / "0.png", colour)
    data = load_folder(tmp_path, image_size=4)
    assert data.description.endswith("train/, test/ and val/.")
    assert data.validation is not None
    assert data.train_inputs[data.validation][:, :, 0, 0].tolist() == [list(GREEN)] * 2
    assert data.train_inputs[~data.validation][:, :, 0, 0].tolist() == [list(RED)] * 2
    assert data.test_inputs[:, :, 0, 0].tolist() == [list(BLUE)] * 2
    card = data.card()
    assert (card.train_counts, card.validation_counts, card.test_counts) == ((1, 1),) * 3
    assert load_folder(write_classes(tmp_path / "other", "train/a", "train/b", "test/a", "test/b")).validation is None
    tailed = long_tail(load_folder(write_classes(tmp_path / "tail", "train/a", "train/b", "val/a", "test/a")), 2)
    assert tailed.card().train_counts in ((2, 1), (1, 2))
    assert tailed.card().validation_counts == (2, 0)


def test_a_share_is_not_held_out_where_the_data_bring_a_part(tmp_path):
    write_classes(tmp_path / "data", "train/a", "train/b", "val/a", "val/b", "test/a", "test/b")
    words = "--validation: expected none with data, which brings 4 validation images, got 0.5"
    for call in (compare, tune, train_one):
        with pytest.raises(InputError, match=words):
            call(tmp_path / "data", validation=0.5, epochs=1, device="cpu", out=tmp_path / "out")


SPLITS = [
    ("train", "test"),
    ("Train", "Test"),
    ("TRAIN", "VAL"),
    ("training", "testing"),
    ("Training", "Testing"),
    ("Training", "Validation"),
    ("trn", "tst"),
    ("train", "dev"),
    ("train", "eval"),
    ("training", "evaluation"),
    ("train", "holdout"),
    ("train", "hold-out"),
    ("train", "Held_Out"),
    ("trainval", "test"),
    ("train_val", "test"),
    ("train_set", "test_set"),
    ("TrainSet", "TestSet"),
    ("trainset", "valset"),
    ("train-images", "test-images"),
    ("images_train", "images_val"),
    ("imagesTrain", "imagesTest"),
    ("train2017", "val2017"),
    ("01_train", "02_test"),
    ("seg_train", "seg_test"),
    ("pets train v2", "pets test v2"),
]


@pytest.mark.parametrize(("train", "test"), SPLITS)
def test_a_split_is_known_by_its_names(tmp_path, train, test):
    for part in (train, test):
        write_classes(tmp_path, f"{part}/a", f"{part}/b", count=1)
    write_image(tmp_path / train / "b" / "only.png", GREEN)
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["a", "b"]
    assert data.group_names is None
    assert data.counts(data.train_labels).tolist() == [1, 2]
    assert data.counts(data.test_labels).tolist() == [1, 1]
    assert data.description.endswith(f", split as in {train}/ and {test}/.")


@pytest.mark.parametrize(
    ("folders", "test"),
    [
        (["Train", "Validation", "Test"], "Test"),
        (["training", "dev", "holdout"], "holdout"),
        (["seg_train", "seg_val", "seg_test"], "seg_test"),
    ],
)
def test_of_three_parts_each_has_its_use(tmp_path, folders, test):
    for part in folders:
        write_classes(tmp_path, f"{part}/a", f"{part}/b")
    validation = folders[1]
    assert load_folder(tmp_path).description.endswith(f"{folders[0]}/, {test}/ and {validation}/.")


def test_a_part_without_labels_is_not_tested_on(tmp_path):
    write_classes(tmp_path, "train/a", "train/b", "val/a", "val/b", "test", "pred")
    assert load_folder(tmp_path).description.endswith("train/ and val/.")


@pytest.mark.parametrize(
    ("outer", "train", "test"),
    [
        ("", "seg_train/seg_train", "seg_test/seg_test"),
        ("", "train/images", "test/images"),
        ("archive/", "train", "test"),
        ("download/archive/", "Training/Training", "Testing"),
    ],
)
def test_folders_around_the_parts_and_the_classes_are_looked_through(tmp_path, outer, train, test):
    for part in (train, test):
        write_classes(tmp_path, f"{outer}{part}/a", f"{outer}{part}/b")
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["a", "b"]
    assert (len(data.train_labels), len(data.test_labels)) == (4, 4)
    assert data.description.endswith(f", split as in {outer}{train}/ and {outer}{test}/.")


def test_groups_of_a_split_are_groups(tmp_path):
    for part in ("Training", "Testing"):
        write_classes(tmp_path, f"{part}/plant/fern", f"{part}/animal/cat", f"{part}/animal/dog")
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["animal/cat", "animal/dog", "plant/fern"]
    assert list(data.group_names) == ["animal", "plant"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["Lernen/a", "Lernen/b", "Prüfen/a", "Prüfen/b"], "got a in Lernen and a in Prüfen"),
        (["fold1/a", "fold1/b", "fold2/a", "fold2/b"], "got a in fold1 and a in fold2"),
        (["one/cat", "one/dog", "two/Cat", "two/bird"], "got cat in one and Cat in two"),
        (["one/\u00e9", "one/b", "two/e\u0301", "two/c"], "in one and .* in two"),
        (["train/a", "train/b", "seg_test/a", "seg_test/b"], "got a in seg_test and a in train"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "got test in cat and test in dog"),
        (["pets/train/cat", "pets/test/cat", "cars/train/van", "cars/test/van"], "got test in cars and test in pets"),
        (["train/one/a", "train/one/b", "train/two/a", "test/one/a"], "got a in one and a in two"),
    ],
)
def test_groups_that_hold_classes_of_one_name_are_refused(tmp_path, folders, message):
    """They may be a split of another language, folds, or a slip: each would count a class several times."""
    with pytest.raises(InputError, match=f"expected a class in one group alone, or folders .*{message}"):
        load_folder(write_classes(tmp_path, *folders))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "Train", "test"], "expected one folder to train on and one to test on, got Train and train"),
        (["train", "test", "testing"], "expected one folder to train on and one to test on, got test and testing"),
        (["train", "val", "dev"], "expected one folder to train on and one to test on, got dev and val"),
        (["cats_train", "cats_test", "dogs_train", "dogs_test"], "not both, got dogs_test beside cats_train"),
        (["trainA", "trainB", "testA", "testB"], "not both, got testB beside trainA"),
        (["train", "test", "test-dev"], "not both, got test-dev beside train"),
    ],
)
@pytest.mark.parametrize("classes", [("a", "b"), ("",)])
def test_a_split_that_can_be_read_in_two_ways_is_refused(tmp_path, folders, message, classes):
    with pytest.raises(InputError, match=message):
        load_folder(write_classes(tmp_path, *(f"{folder}/{name}" for folder in folders for name in classes)))


@pytest.mark.parametrize(
    "names", [("bullet_train", "crash_test"), ("test", "valid"), ("train", "bus"), ("dev", "eval")]
)
def test_classes_whose_names_are_no_split_are_classes(tmp_path, names):
    assert list(load_folder(write_classes(tmp_path, *names)).class_names) == sorted(names)


def test_nested_files_count_and_hidden_ones_do_not(tmp_path, capsys):
    write_classes(tmp_path, "a", "b", "a/deeper/still", ".git", "b/.thumbnails")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("beside the classes")
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["a", "b"]
    assert (data.counts(data.train_labels) + data.counts(data.test_labels)).tolist() == [4, 2]
    assert capsys.readouterr().err == ""  # .DS_Store is not even tried


@pytest.mark.parametrize("parts", [[""], ["train/", "val/"]])
def test_two_levels_are_groups_and_classes(tmp_path, parts):
    for part in parts:
        write_classes(tmp_path, f"{part}plant/fern", f"{part}animal/cat", f"{part}animal/dog")
    (tmp_path / parts[0] / "animal" / "README.txt").write_text("not an image")
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["animal/cat", "animal/dog", "plant/fern"]
    assert list(data.group_names) == ["animal", "plant"]
    assert list(data.group_of_class) == [0, 0, 1]


def test_a_single_folder_in_each_class_is_no_group(tmp_path):
    data = load_folder(write_classes(tmp_path, "n01/images", "n02/images"))
    assert list(data.class_names) == ["n01", "n02"]
    assert data.group_names is None


def test_a_class_called_train_is_a_class(tmp_path):
    assert list(load_folder(write_classes(tmp_path, "bus", "train")).class_names) == ["bus", "train"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ["animal/cat", "animal/dog", "fern"],
            "got images in fern and only folders in animal",
        ),
        (
            ["train/a", "train/b"],
            "expected a folder such as test or val beside train, got train alone; give .*/train to",
        ),
        (["Training/a", "Training/b"], "expected a folder such as test or val beside Training, got Training alone"),
        (["train/a", "pred/x"], "beside train, got train alone"),
        (["train/a", "train/b", "test/a", "test/b", "bus"], "not both, got bus beside train"),
        (
            ["train/a", "train/b", "test/a", "test/b", "test/c"],
            "test: expected the classes of .*, got c",
        ),
        ([], "expected a folder for each class, got no folders"),
        (["only"], "expected at least 2 classes, got 1"),
        (["train\x1b/a", "test/a"], r"expected folder names of printable characters, got 'train\\x1b and test'"),
        (["a\x1b[31m", "b"], r"expected class names of printable characters, got 'a\\x1b\[31m'"),
    ],
)
def test_folders_that_fit_no_layout_are_explained(tmp_path, folders, message):
    with pytest.raises(InputError, match=message) as caught:
        load_folder(write_classes(tmp_path, *folders))
    assert "\n" not in str(caught.value)


def test_classes_without_enough_images_are_named(tmp_path):
    write_image(write_classes(tmp_path, "a", "b") / "lonely" / "0.png")
    with pytest.raises(InputError, match=r"expected at least 2 readable images of class lonely, .*, got 1\.$"):
        load_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected an image of class empty, got an empty folder\.$"):
        load_folder(tmp_path)


# Bounds


def make_deep(folder: Path, depth: int) -> None:
    for _ in range(depth):
        folder = folder / "d"
        folder.mkdir(exist_ok=True)


def test_folders_within_folders_are_bounded(tmp_path):
    write_classes(tmp_path, "a", "b")
    make_deep(tmp_path / "a", 64)
    load_folder(tmp_path)
    make_deep(tmp_path / "a", 66)
    with pytest.raises(InputError, match=r"/a: expected folders within folders up to 64 times, got more\.$"):
        load_folder(tmp_path)


def test_a_chain_of_folders_is_not_followed_to_its_end(tmp_path):
    make_deep(tmp_path, 70)
    with pytest.raises(InputError, match="expected folders within folders up to 64 times"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "folders", [["a", "b"], ["a/deeper", "b/deeper"], ["a", "b", "c", "d", "e", "f", "g"], ["x/a", "y/b"]]
)
def test_the_number_of_files_is_bounded(tmp_path, monkeypatch, folders):
    monkeypatch.setattr(folder_module, "MOST_FILES", 6)
    with pytest.raises(InputError, match=r"expected .*at most 6 (images|files)"):
        load_folder(write_classes(tmp_path, *folders, count=7 if len(folders) == 2 else 1))


def test_the_images_must_fit_in_memory(tmp_path, monkeypatch):
    write_classes(tmp_path, "a", "b")
    monkeypatch.setattr("softmaxes.lab.data.dataset.free_memory", lambda: 4 * 2 * 3 * 64**2 - 1)
    message = r"expected 0\.0 GiB of free memory for 4 images of 64x64 pixels, got 0\.0 GiB\.$"
    with pytest.raises(InputError, match=message):
        load_folder(tmp_path, image_size=64)
    load_folder(tmp_path, image_size=63)


def test_links_to_themselves_pipes_and_devices_are_no_images(tmp_path, capsys):
    write_classes(tmp_path, "a", "b")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    for place, target in (("loop", "loop"), ("a/loop.png", "loop.png"), ("a/device.png", "/dev/zero"), ("a/up", "..")):
        (tmp_path / place).symlink_to(target)
    (tmp_path / "c").symlink_to("a")  # a class all the same
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["a", "b", "c"]
    assert len(data.train_labels) + len(data.test_labels) == 6
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [{"image_size": 0}, {"test_share": 0.0}, {"test_share": 1.0}, {"seed": -1}])
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(InputError, match=next(iter(options))):
        load_folder(write_classes(tmp_path, "a", "b"), **options)
    with pytest.raises(InputError, match=r"expected a folder of folders of images, got no folder of that name\.$"):
        load_folder(tmp_path / "nowhere")


# Pixels


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize("file", ["0.png", "0.bmp", "0.tiff", "0.webp", "0.ppm", "without_suffix", "wrong.jpg"])
def test_lossless_images_of_the_right_size_come_through_exactly(tmp_path, picture, file):
    kind = {".bmp": "BMP", ".tiff": "TIFF", ".webp": "WEBP", ".ppm": "PPM"}.get(Path(file).suffix, "PNG")
    shown = load_one(tmp_path, picture, file, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(shown, np.asarray(picture))


def test_the_exif_orientation_is_honoured(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    shown = load_one(tmp_path, picture, exif=exif)
    np.testing.assert_array_equal(shown, np.rot90(np.asarray(picture), -1))


@pytest.mark.parametrize("size", [(30, 10), (10, 30)])
def test_the_centre_is_kept(tmp_path, size):
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, ((size[0] - 10) // 2, (size[1] - 10) // 2, (size[0] + 10) // 2, (size[1] + 10) // 2))
    assert (load_one(tmp_path, image, size=10) == GREEN).all()


def test_fine_detail_is_averaged_not_sampled(tmp_path):
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    shown = load_one(tmp_path, Image.fromarray(stripes), size=8)
    assert np.abs(shown.astype(int) - 127).max() < 12


def test_large_jpegs_keep_their_colours(tmp_path):
    image = Image.new("RGB", (1600, 1200), RED)
    image.paste(BLUE, (0, 600, 1600, 1200))
    shown = load_one(tmp_path, image, "0.jpg", size=8, quality=95).astype(int)
    assert np.abs(shown[:3] - RED).max() < 15
    assert np.abs(shown[5:] - BLUE).max() < 15


def test_large_jpegs_keep_what_detail_fits(tmp_path):
    stripes = np.zeros((400, 400, 3), dtype=np.uint8)
    stripes[:, np.arange(400) % 8 < 4] = 255
    assert load_one(tmp_path, Image.fromarray(stripes), "0.jpg", size=100, quality=95).std() > 50


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (8, 8), (*RED, 0))
    image.paste((*RED, 255), (0, 0, 4, 8))
    shown = load_one(tmp_path, image)
    assert shown[4, 1].tolist() == list(RED)
    assert shown[4, 6].tolist() == [255, 255, 255]


def test_a_transparent_palette_is_laid_on_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([*RED, *GREEN])
    image.paste(0, (0, 0, 4, 8))
    shown = load_one(tmp_path, image, "0.gif", transparency=1)
    assert shown[4, 1].tolist() == list(RED)
    assert shown[4, 6].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("dtype", "file"), [(np.uint16, "0.png"), (np.int32, "0.tiff")])
def test_16_bit_grey_keeps_its_shades(tmp_path, dtype, file):
    shades = np.arange(64).reshape(8, 8) * 1024
    shown = load_one(tmp_path, Image.fromarray(shades.astype(dtype)), file)
    np.testing.assert_array_equal(shown, np.repeat(np.rint(shades / 257)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("mode", "colour", "file", "shown"),
    [
        ("L", 77, "0.png", (77, 77, 77)),
        ("1", 1, "0.png", (255, 255, 255)),
        ("LA", (77, 255), "0.png", (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), "0.tiff", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "0.jpg", (255, 0, 0)),
    ],
)
def test_other_colour_models_become_rgb(tmp_path, mode, colour, file, shown):
    pixels = load_one(tmp_path, Image.new(mode, (8, 8), colour), file).astype(int)
    assert np.abs(pixels - shown).max() <= 3


# Unreadable files


def test_unreadable_files_are_skipped_and_listed(tmp_path, capsys):
    write_classes(tmp_path, "a", "b", count=3)
    whole = write_image(tmp_path / "a" / "cut.jpg", size=(200, 200)).read_bytes()
    (tmp_path / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a" / "notes[bold].txt").write_text("no image")
    (tmp_path / "b" / "empty.png").write_bytes(b"")
    Image.new("F", (8, 8)).save(tmp_path / "b" / "float.tiff")
    data = load_folder(tmp_path)
    assert len(data.train_labels) + len(data.test_labels) == 6
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""
    assert lines[0] == "4 unreadable files skipped:"
    assert lines[1].startswith("a/cut.jpg: image file is truncated")
    assert lines[2:] == [
        "a/notes[bold].txt: no image, or of an unknown format",
        "b/empty.png: no image, or of an unknown format",
        "b/float.tiff: floating-point pixels, of which white is unknown",
    ]


def test_a_decompression_bomb_is_skipped(tmp_path, capsys, monkeypatch):
    write_classes(tmp_path, "a", "b")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    write_image(tmp_path / "a" / "large.png", size=(40, 40))
    write_image(tmp_path / "a" / "larger.png", size=(60, 60))
    load_folder(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "2 unreadable files skipped:"
    assert lines[1].startswith("a/large.png: Image size (1600 pixels) exceeds limit")
    assert lines[2].startswith("a/larger.png: Image size (3600 pixels) exceeds limit")


def test_an_image_of_too_many_pixels_or_bytes_is_skipped(tmp_path, capsys, monkeypatch):
    write_classes(tmp_path, "a", "b")
    monkeypatch.setattr(folder_module, "MOST_PIXELS", 1000)
    monkeypatch.setattr(folder_module, "LARGEST_FILE", 10_000)
    write_image(tmp_path / "a" / "large.png", size=(40, 40))
    write_image(tmp_path / "a" / "just.png", size=(40, 25))
    write_image(tmp_path / "a" / "large.jpg", size=(200, 200))  # decoded at an eighth
    write_image(tmp_path / "a" / "long.png")
    os.truncate(tmp_path / "a" / "long.png", 2**40)
    load_folder(tmp_path, image_size=4)
    assert capsys.readouterr().err.splitlines() == [
        "2 unreadable files skipped:",
        "a/large.png: 40 x 40 pixels, which are more than 1,000",
        "a/long.png: expected a file of at most 10,000 bytes, got 1,099,511,627,776",
    ]


def test_a_jpeg_of_too_many_scans_is_skipped(tmp_path, picture):
    path = tmp_path / "0.jpg"
    picture.save(path, progressive=True)
    content = path.read_bytes()
    start, *scans = content.split(b"\xff\xda")
    exif = Image.Exif()
    exif[0x010E] = "\xff\xd9" * 9
    picture.save(path, exif=exif, progressive=True)
    assert not isinstance(folder_module._decode(path, (8, 8)), str)
    path.write_bytes(content + b"\xff\xda" * 200)  # as a film that is added to a photograph
    assert not isinstance(folder_module._decode(path, (8, 8)), str)
    comment = b"\xff\xfe\0\4\xff\xd9"  # no end
    path.write_bytes(b"\xff\xda".join([start, scans[0] + comment, *scans[1:2] * 100, *scans[1:]]))
    assert folder_module._decode(path, (8, 8)) == "more than 100 scans"


def test_an_image_that_another_program_would_draw_is_skipped(tmp_path, capsys):
    write_classes(tmp_path, "a", "b")
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "drawing.eps")
    load_folder(tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        "1 unreadable file skipped:",
        "a/drawing.eps: no image, or of an unknown format",
    ]


def test_a_long_list_is_cut(tmp_path, capsys):
    write_classes(tmp_path, "a", "b")
    for index in range(23):
        (tmp_path / "a" / f"broken{index:02}.png").write_bytes(b"broken")
    load_folder(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[0] == "23 unreadable files skipped:"
    assert lines[20].startswith("a/broken19.png: ")
    assert lines[21] == "and 3 more"


@pytest.mark.skipif(os.name == "nt", reason="names are free only elsewhere")
def test_a_name_cannot_write_to_the_terminal(tmp_path, capsys):
    write_classes(tmp_path, "a", "b")
    (tmp_path / "a" / "\x1b[2J\n\udcff.png").write_bytes(b"broken")
    load_folder(tmp_path)
    assert capsys.readouterr().err.splitlines()[1] == "a/�[2J��.png: no image, or of an unknown format"


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (True, r"train: expected a training image of class a, got none that can be read\.$"),
        (False, r"expected at least 2 readable images of class a, one to train on and one to test, got 0\.$"),
    ],
)
def test_a_class_with_nothing_readable_is_named(tmp_path, split, message):
    root = tmp_path / "train" if split else tmp_path
    write_classes(root, "b")
    if split:
        write_classes(tmp_path / "test", "a", "b")
    (root / "a").mkdir()
    (root / "a" / "0.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=message):
        load_folder(tmp_path)


def test_a_class_without_a_test_image_is_told_and_goes_on(tmp_path):
    write_classes(tmp_path / "train", "a", "b", "c", "d")
    write_classes(tmp_path / "test", "a", "b")
    (tmp_path / "test" / "c").mkdir()
    data = load_folder(tmp_path)
    assert list(data.class_names) == ["a", "b", "c", "d"]
    assert data.counts(data.test_labels).tolist()[2:] == [0, 0]
    assert data.description.endswith("split as in train/ and test/; 2 classes without a test image: c, d.")
    for image in (tmp_path / "test").glob("*/*"):
        image.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"test: expected a test image, got none that can be read\.$"):
        load_folder(tmp_path)


def test_a_broken_image_never_ends_in_another_error(tmp_path):
    """Any byte of an image may be wrong: the loader either shows it or says why not."""
    generator = np.random.default_rng(0)
    for suffix in ("png", "jpg", "gif", "tiff", "webp", "bmp"):
        whole = np.frombuffer(write_image(tmp_path / f"whole.{suffix}", size=(40, 30)).read_bytes(), dtype=np.uint8)
        for _ in range(20):
            content = whole.copy()
            content[generator.integers(0, len(content), 4)] = generator.integers(0, 256, 4)
            path = tmp_path / f"broken.{suffix}"
            path.write_bytes(content.tobytes())
            decoded = folder_module._decode(path, (8, 8))
            assert isinstance(decoded, str) or decoded.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("two\n lines."), "two lines"),
        (MemoryError(), "MemoryError"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ValueError("x" * 10**6), f"{'x' * 79}…"),
    ],
)
def test_a_reason_is_one_line(tmp_path, monkeypatch, error, reason):
    def refuse(*_: object, **__: object) -> None:
        raise error

    path = write_image(tmp_path / "0.png")
    monkeypatch.setattr(Image, "open", refuse)
    assert folder_module._decode(path, (8, 8)) == reason


@pytest.mark.slow
def test_several_processes_read_what_one_does(tmp_path, capsys):
    generator = np.random.default_rng(0)
    write_classes(tmp_path, "a", "b")
    for name in ("a", "b"):
        for index in range(4):
            pixels = generator.integers(0, 256, (9, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"noise{index}.png")
    (tmp_path / "a" / "broken.png").write_bytes(struct.pack("<I", 7))
    one, two = (load_folder(tmp_path, jobs=jobs) for jobs in (1, 2))
    assert one.fingerprint == two.fingerprint
    first, second = capsys.readouterr().err.split("1 unreadable file skipped:")[1:]
    assert first == second


def test_small_sets_start_no_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "ProcessPoolExecutor", None)
    load_folder(write_classes(tmp_path, "a", "b"))
