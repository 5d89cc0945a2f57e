"""Monsters made by code: files, names and tables that have broken something, or might.

Each comes with what must become of it: a shape (it is read) or a word of the reason (it is refused).
"""
from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from covid_xray.dicom import film_as_dicom, to_bytes

GREY = np.add.outer(np.arange(60), np.arange(48)).astype(np.uint8)  # 60 high, 48 wide


class Trap:
    "Leaves a trace when unpickled"

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def saved(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    "A picture as a file"
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *, interlaced: bool = False) -> bytes:
    "A PNG by hand: what it declares, and what it holds"
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def interlaced(image: np.ndarray) -> bytes:
    "An Adam7 PNG (PNG specification, section 8.2)"
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = (row for y, x, dy, dx in passes for row in image[y::dy, x::dx])
    return png(image.shape[1], image.shape[0], 8, 0, b"".join(b"\0" + row.tobytes() for row in rows), interlaced=True)


def jpeg_of_passes(count: int) -> bytes:
    "A progressive JPEG whose last pass stands there again and again"
    whole = saved(GREY, "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def pictures() -> dict[str, tuple[bytes, tuple[int, int] | str]]:
    "Name -> content, and the shape that is read or a word of the reason"
    shape, turned, alpha = GREY.shape, Image.Exif(), np.dstack([GREY, np.full_like(GREY, 255)])
    turned[0x0112] = 6
    two = {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]}
    rgb = np.dstack([GREY] * 3)
    infinite = GREY.astype(np.float32)
    infinite[0, 0] = np.inf
    huge = film_as_dicom(GREY)
    huge.Rows = huge.Columns = 65535
    deflated = film_as_dicom(GREY)
    deflated.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    return {
        "1 x 1": (saved(np.zeros((1, 1), np.uint8), "PNG"), "1 x 1"),
        "1 x 20000": (saved(np.zeros((20000, 1), np.uint8), "PNG"), "1 x 20000"),
        "16 bits": (saved(GREY.astype(np.uint16) * 250, "PNG"), shape),
        "16 bits, TIFF": (saved(GREY.astype(np.uint16) * 250, "TIFF"), shape),
        "infinite": (saved(infinite, "TIFF"), "not finite"),
        "CMYK": (saved(Image.fromarray(rgb).convert("CMYK"), "JPEG"), shape),
        "grey with alpha": (saved(Image.fromarray(alpha, "LA"), "PNG"), shape),
        "animated GIF": (saved(GREY, "GIF", **two), "frames"),
        "animated PNG": (saved(GREY, "PNG", **two), "frames"),
        "TIFF of two pages": (saved(GREY, "TIFF", **two), "frames"),
        "turned by EXIF": (saved(GREY, "JPEG", exif=turned), shape[::-1]),
        "ICC profile": (saved(GREY, "PNG", icc_profile=bytes(range(256)) * 4), shape),
        "interlaced": (interlaced(GREY), shape),
        "zip bomb": (png(9000, 9000, 16, 0, bytes(2_000_000)), "pixels"),
        "declares 4 gigapixels": (png(65535, 65535, 8, 0, b""), "pixels"),
        "text bomb": (saved(GREY, "PNG")[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000)))
                      + saved(GREY, "PNG")[33:], "Decompressed"),
        "JPEG of 5,000 passes": (jpeg_of_passes(5000), "passes"),
        "DICOM of 4 gigapixels": (to_bytes(huge), "pixels"),
        "deflated DICOM": (to_bytes(deflated), "deflated"),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n", "no picture format"),
        "a pickle": (b"\x80\x04\x95\x10\x00", "no picture format"),
        "a page": (b"<html>404</html>", "no picture format"),
        "nothing": (b"", "empty"),
    }


NAMES = ["two words.png", "a\nline.png", "\U0001fac1.png", "x" * 251 + ".png", "-rf.png", "a,b;c.png", '"quoted".png',
         "tab\there.png", "film.PNG", "..png", "caf\u00e9.png", "cafe\u0301.png", "=1+1.png"]
LATIN = b"caf\xe9.png"  # not UTF-8

TABLES = {  # what is in it -> the text ({0}, {1}, {2} are films), and the labels that are read or words of the reason
    "bare": ("path,label\n{0},covid\n{1},normal\n", ["covid", "normal"]),
    "byte order mark": ("\ufeffpath,label\n{0},covid\n", ["covid"]),
    "Windows line ends": ("path,label\r\n{0},covid\r\n{1},normal\r\n", ["covid", "normal"]),
    "semicolons": ("path;label;age\n{0};covid;45,5\n", ["covid"]),
    "Excel's sep=": ("sep=;\r\npath;label\r\n{0};covid\r\n", ["covid"]),
    "Excel-style quotes": ('"path","label"\n"{0}","covid"\n', ["covid"]),
    "quotes in quotes": ('path,label,patient\n{0},covid,"the ""first"" one"\n', ["covid"]),
    "a separator at each end": ("path,label,\n{0},covid,\n", ["covid"]),
    "blank lines": ("\n\npath,label\n\n{0},covid\n,\n", ["covid"]),
    "one row": ("path,label\n{0},covid\n", ["covid"]),
    "one class": ("path,label\n{0},covid\n{1},covid\n", ["covid", "covid"]),
    "a patient in two labels": ("path,label,patient\n{0},covid,P\n{1},normal,P\n", ["covid", "normal"]),
    "no rows": ("path,label\n", "no rows"),
    "nothing": ("", "it is empty"),
    "no label": ("path,finding\n{0},covid\n", "column label missing"),
    "label twice": ("path,label,label\n{0},covid,normal\n", "label stands there twice"),
    "a row twice": ("path,label\n{0},covid\n{0},covid\n", "twice"),
    "a film in two labels": ("path,label\n{0},covid\n{0},normal\n", "twice"),
    "blank label": ("path,label\n\n{0},\n", "line 3"),
    "NaN label": ("path,label\n{0},NaN\n", "line 2"),
    "NaN age": ("path,label,age\n{0},covid,NaN\n", ["covid"]),
    "infinite age": ("path,label,age\n{0},covid,inf\n", "column age"),
    "huge fold": ("path,label,fold\n{0},covid,1e30\n", "line 2, column fold"),
    "a comma too many": ("path,label\n{0},covid\nold, {1},normal\n", "line 3: 3 cells under 2 columns"),
    "every row too long": ("path,label\nx,{0},covid\nx,{1},normal\n", "line 2: 3 cells"),
    "an open quote": ('path,label\n{0},"covid\n', "not a readable CSV"),
    "a cell without end": ("path,label\n{0}," + "x" * 200_000 + "\n", "not a readable CSV"),
    "one person in two parts": ("path,label,person,split\n{0},covid,P,train\n{1},covid,P,test\n", "2 parts"),
}
