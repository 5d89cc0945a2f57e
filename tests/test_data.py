"""Reading films of every kind, and the decoded cache, against Pillow, pydicom and the files themselves."""
from __future__ import annotations

import io
import multiprocessing
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from covid_xray import phantom
from covid_xray.data import Radiographs, UnreadableFilm, read_radiograph, resize
from covid_xray.records import record_table

FILM = (np.add.outer(np.arange(60), np.arange(80)) * 255 // 138).astype(np.uint8)  # 60 high, 80 wide: a grey wedge


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_declaring(width: int, height: int) -> bytes:
    "A PNG of a few bytes that declares a picture of any size"
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def table_of(paths: list, labels: list[str] | None = None) -> pd.DataFrame:
    return record_table({"path": [str(p) for p in paths], "label": labels or ["normal"] * len(paths)})


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_grey_files_are_read_to_the_pixel(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(read_radiograph(saved(Image.fromarray(FILM), kind, **options)), FILM)


def test_palette_colour_and_alpha_become_grey():
    grey = Image.fromarray(FILM)
    assert np.array_equal(read_radiograph(saved(grey.convert("RGB"), "PNG")), FILM)
    palette = Image.fromarray(FILM).convert("P")
    assert np.abs(read_radiograph(saved(palette, "PNG")).astype(int) - np.asarray(palette.convert("L"))).max() == 0
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    assert read_radiograph(saved(red, "PNG"))[0, 0] == 76  # 0.299 * 255, ITU-R BT.601
    half = grey.convert("RGBA")
    half.putalpha(Image.fromarray(np.repeat([[255] * 40 + [0] * 40], 60, 0).astype(np.uint8)))
    seen = read_radiograph(saved(half, "PNG"))
    assert np.array_equal(seen[:, :40], FILM[:, :40]) and (seen[:, 40:] == 0).all()  # transparent is black


def test_cmyk_is_read():
    seen = read_radiograph(saved(Image.fromarray(FILM).convert("RGB").convert("CMYK"), "JPEG", quality=98))
    assert np.abs(seen.astype(int) - FILM).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_from_their_own_range(kind):
    deep = FILM.astype(np.uint16) * 13 + 700  # a 12-bit film in a 16-bit file
    expected = np.round(FILM * (255 / FILM.max())).astype(np.uint8)
    assert np.array_equal(read_radiograph(saved(Image.fromarray(deep), kind)), expected)


def test_every_exif_orientation_is_undone():
    upright = Image.fromarray(FILM)
    turned = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
              5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_270}
    for orientation, how in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert np.array_equal(read_radiograph(saved(upright.transpose(how), "PNG", exif=exif)), FILM), orientation


BLACK = Image.new("L", (40, 40))
BAD = {
    "empty": (b"", "empty"),
    "text": (b"<html>not found</html>", "no picture format"),
    "bomb": (png_declaring(60_000, 60_000), "pixels"),
    "one pixel": (saved(Image.new("L", (1, 1)), "PNG"), "1 x 1"),
    "a line": (saved(Image.new("L", (20_000, 1)), "PNG"), "20000 x 1"),
    "animated": (saved(BLACK, "GIF", save_all=True, append_images=[Image.new("L", (40, 40), 9)]), "2 frames"),
    "a damaged DICOM": (b"\0" * 128 + b"DICM" + b"\x08\x00garbage", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_film_is_refused_with_its_path_and_reason(name, tmp_path):
    content, reason = BAD[name]
    path = tmp_path / f"{name}.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableFilm) as caught:
        read_radiograph(path)
    assert caught.value.path == str(path) and reason in caught.value.reason and caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_never_taken_for_a_whole_one(kind):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    whole = saved(Image.fromarray(noise), kind)
    for length in range(1, len(whole) - 64, max(1, len(whole) // 40)):
        with pytest.raises(UnreadableFilm):
            read_radiograph(whole[:length])


def dicom(pixels: np.ndarray, photometric: str = "MONOCHROME2", **tags):
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, photometric, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def test_dicom_window_and_polarity():
    pixels = FILM.astype(np.uint16) * 16
    plain = read_radiograph(dicom(pixels))
    assert np.abs(plain.astype(int) - np.round(FILM * (255 / FILM.max()))).max() <= 1
    assert np.array_equal(read_radiograph(dicom(pixels, "MONOCHROME1")), 255 - plain)
    windowed = read_radiograph(dicom(pixels, WindowCenter=2048, WindowWidth=1024))  # DICOM PS3.3 C.11.2.1.2.1 by hand
    expected = np.clip(((pixels - 2047.5) / 1023 + 0.5), 0, 1) * 255
    assert np.abs(windowed.astype(int) - expected).max() <= 1


def test_dicom_from_a_file_whatever_its_name(tmp_path):
    path = tmp_path / "film.png"
    dicom(FILM.astype(np.uint16)).save_as(path, enforce_file_format=True)
    assert np.array_equal(read_radiograph(path), read_radiograph(dicom(FILM.astype(np.uint16))))


def test_dicom_with_many_frames_or_colours_is_refused():
    with pytest.raises(UnreadableFilm, match="multi-frame"):
        read_radiograph(dicom(FILM.astype(np.uint16), NumberOfFrames=3))
    with pytest.raises(UnreadableFilm, match="photometric"):
        read_radiograph(dicom(FILM.astype(np.uint16), "RGB"))


def test_without_pydicom_the_error_names_the_extra(monkeypatch):
    import sys

    content = b"\0" * 128 + b"DICM"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"covid_xray\[dicom\]"):
        read_radiograph(content)


def test_resizing_keeps_the_mean_and_refuses_the_unknown():
    for size in (16, 31, 60):
        assert abs(float(resize(FILM, size).mean()) - float(FILM.mean())) < 1.5
    with pytest.raises(ValueError, match="squash, pad or crop"):
        resize(FILM, 32, "stretch")


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in range(6):
        Image.fromarray(np.roll(FILM, i * 7, 1)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"")
    return tmp_path


def test_unreadable_films_are_set_aside_and_the_rest_goes_on(folder):
    paths = [folder / "0.png", folder / "broken.png", folder / "absent.png", folder / "3.png"]
    films = Radiographs(table_of(paths), 32, progress=False)
    assert len(films) == 2 and films.table["path"].tolist() == [str(paths[0]), str(paths[3])]
    assert dict(zip(films.skipped["path"], films.skipped["reason"])) == {
        str(paths[1]): "the file is empty", str(paths[2]): "no such file"}
    assert np.array_equal(films.images[1], resize(read_radiograph(paths[3]), 32))
    with pytest.raises(UnreadableFilm, match="broken.png"):
        Radiographs(table_of(paths), 32, strict=True, progress=False)
    with pytest.raises(ValueError, match="none of the 1 films"):
        Radiographs(table_of(paths[1:2]), 32, progress=False)


def test_an_unknown_label_is_named(folder):
    with pytest.raises(ValueError, match="effusion"):
        Radiographs(table_of([folder / "0.png"], ["effusion"]), 32, progress=False)


def test_the_cache_is_reused_and_never_stale(folder):
    paths, cache = [folder / "0.png", folder / "broken.png", folder / "1.png"], folder / "cache"
    first = Radiographs(table_of(paths), 32, cache, progress=False)
    assert len(list(cache.glob("*.npy"))) == 1
    again = Radiographs(table_of(paths), 32, cache, progress=False)
    assert len(list(cache.glob("*.npy"))) == 1 and np.array_equal(first.images, again.images)
    assert again.skipped.equals(first.skipped)
    Radiographs(table_of(paths), 33, cache, progress=False)
    Radiographs(table_of(paths), 32, cache, fit="pad", progress=False)
    assert len(list(cache.glob("*.npy"))) == 3
    Image.fromarray(255 - FILM).save(paths[0])
    os.utime(paths[0], ns=(1, 1))  # even where the clock says nothing of the change
    assert not np.array_equal(Radiographs(table_of(paths), 32, cache, progress=False).images[0], first.images[0])


def test_a_half_written_cache_is_never_read(folder, monkeypatch):
    cache, paths = folder / "cache", [folder / f"{i}.png" for i in range(6)]

    def power_cut(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("covid_xray.data._decode_into", power_cut)
    with pytest.raises(OSError, match="the disk is full"):
        Radiographs(table_of(paths), 32, cache, progress=False)
    assert not list(cache.glob("*"))
    monkeypatch.undo()
    assert len(Radiographs(table_of(paths), 32, cache, progress=False)) == 6


def _build(folder: str) -> float:
    paths = [Path(folder) / f"{i}.png" for i in range(6)]
    return float(Radiographs(table_of(paths), 32, Path(folder) / "shared", progress=False).images.mean())


def test_two_processes_build_one_cache(folder):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        means = pool.map(_build, [str(folder)] * 4)
    assert len(set(means)) == 1
    assert sorted(p.suffix for p in (folder / "shared").iterdir()) == [".json", ".npy"]


def test_parts_selections_and_batches(folder):
    table = table_of([folder / f"{i}.png" for i in range(6)], ["covid", "normal", "pneumonia"] * 2)
    table["split"] = pd.array(["train"] * 4 + ["test"] * 2, dtype="string")
    films = Radiographs(table, 32, progress=False)
    assert films.targets.tolist() == [0, 1, 2, 0, 1, 2] and films.part("test").targets.tolist() == [1, 2]
    images, targets = films.part("test").batch([1, 0])
    assert images.shape == (2, 1, 32, 32) and str(images.dtype) == "torch.float32" and targets.tolist() == [2, 1]
    assert np.array_equal(np.round(images[0, 0].numpy() * 255), films.images[5])
    with pytest.raises(ValueError, match="'valid'"):
        films.part("valid")


def darker(film, by=2):
    return film // by


def narrow(film):
    return film[:, 10:30]


def refuse_light(film):
    if film.mean() > 200:
        raise ValueError("too light to prepare")
    return film


def test_films_are_prepared_before_they_are_resized(folder):
    table = table_of([folder / "0.png", folder / "1.png"])
    prepared = Radiographs(table, 20, prepare=narrow, progress=False)
    for path, image in zip(table["path"], prepared.images):
        assert np.array_equal(image, resize(read_radiograph(path)[:, 10:30], 20))
    drawn = pd.DataFrame({"path": phantom.teaching_table()["path"][:2], "label": phantom.teaching_table()["label"][:2]})
    image = Radiographs(drawn, 64, prepare=darker, progress=False).images[0]
    assert np.array_equal(image, resize(read_radiograph(drawn["path"][0]) // 2, 64))


def test_what_was_prepared_otherwise_never_comes_from_the_cache(folder):
    table, cache = table_of([folder / "0.png"]), folder / "prepared"

    def built(prepare) -> int:
        return int(Radiographs(table, 32, cache, prepare=prepare, progress=False).images.astype(int).sum())

    plain, half, third = built(None), built(darker), built(partial(darker, by=3))
    assert plain > half > third and [built(None), built(darker), built(partial(darker, by=3))] == [plain, half, third]
    versions = {}
    for factor in (4, 5):  # the same name in the same place, edited
        exec(f"def edited(film):\n    return film // {factor}", versions)
        assert built(versions["edited"]) == (read_into(folder / "0.png", factor))
    hidden = 7
    with pytest.raises(ValueError, match="partial.*or no cache"):
        built(lambda film: film // hidden)


def read_into(path: Path, factor: int) -> int:
    return int(resize(read_radiograph(path) // factor, 32).astype(int).sum())


def test_what_cannot_be_prepared_is_set_aside_by_name(folder):
    Image.fromarray(np.full((60, 60), 250, np.uint8)).save(folder / "light.png")
    table = table_of([folder / "0.png", folder / "light.png"])
    films = Radiographs(table, 32, prepare=refuse_light, progress=False)
    assert len(films) == 1 and films.skipped["reason"][0] == "prepare=refuse_light: too light to prepare"
    with pytest.raises(ValueError, match=r"prepare=<lambda> gave float64 \(60, 80\); uint8 \[H,W\]"):
        Radiographs(table.head(1), 32, prepare=lambda film: film / 255, progress=False)
    with pytest.raises(UnreadableFilm, match="refuse_light"):
        Radiographs(table, 32, prepare=partial(refuse_light), strict=True, progress=False)
