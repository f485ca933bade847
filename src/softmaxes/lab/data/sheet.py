"""A sheet of sample images: a row a class, with its name."""

from pathlib import Path

import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from softmaxes.files import write_whole
from softmaxes.lab.data.dataset import Data, picture

ROWS, COLUMNS = 40, 12
CELL, GAP, NAMES = 48, 4, 260  # pixels
INK, PAPER = (30, 30, 30), (255, 255, 255)
SOFTWARE = "softmaxes data"
MARK = f"Software\0{SOFTWARE}".encode()  # near the beginning of a sheet


def write_sheet(data: Data, path: Path) -> None:
    """Draw training images, a row for each class, and write them as a PNG file.

    Of more than 40 classes, 40 that are spread evenly are shown, in their order.

    Args:
        data: the data set.
        path: the file.
    """
    from matplotlib import get_data_path

    file = Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    font = ImageFont.truetype(str(file), 13)
    with TTFont(file, lazy=True) as opened:
        held = opened.getBestCmap()
    classes = torch.linspace(0, data.num_classes - 1, min(ROWS, data.num_classes)).round().long().tolist()
    images = data.train_inputs
    if not isinstance(images, torch.Tensor) or data.kind != "image":
        raise ValueError(f"{data.name}: expected images, got {data.kind}s.")
    sheet = Image.new("RGB", (NAMES + COLUMNS * (CELL + GAP), len(classes) * (CELL + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(classes):
        top = GAP + row * (CELL + GAP)
        name = data.class_names[label]
        name = "".join(letter for letter in name if ord(letter) in held).strip() or name  # boxes would say nothing
        lines = [name if len(name) <= 34 else name[:33] + "…"]
        if data.group_names is not None and data.group_of_class is not None:
            lines.append(data.group_names[data.group_of_class[label]])
        draw.multiline_text((GAP, top + CELL / 2), "\n".join(lines), INK, font, anchor="lm", spacing=2)
        for column, index in enumerate((data.train_labels == label).nonzero().flatten()[:COLUMNS].tolist()):
            image = picture(images[index]).resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(image, (NAMES + column * (CELL + GAP), top))
    made_by = PngImagePlugin.PngInfo()
    made_by.add_text("Software", SOFTWARE)
    write_whole(path, lambda part: sheet.save(part, format="PNG", pnginfo=made_by))
