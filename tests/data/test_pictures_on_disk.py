"""Pictures that stay on disk, and those inside the files of Hugging Face's datasets."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ste_lightning.data import HuggingFaceImages, ImageFolder
from ste_lightning.data.augment import zoom
from ste_lightning.errors import ConfigurationError


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (20, 24), colour).save(file, "png")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """ImageNet's layout."""
    for part in ("train", "val"):
        for name, colour in (("n01", 10), ("n02", 240)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6):
                image = Image.new("RGB", (20 + i, 30), (colour, colour + i, 0))
                image.save(tmp_path / part / name / f"{i}.JPEG", quality=95)
    return tmp_path


def test_pictures_on_disk_are_those_in_memory(folder):
    def made(**options):
        data = ImageFolder(folder, [16, 16], batch_size=4, validation=0.25, **options)
        data.setup()
        return data

    memory, disk = made(), made(in_memory=False)
    for one, two in zip(memory.train_dataloader(), disk.train_dataloader(), strict=True):
        torch.testing.assert_close(one, two)
    for one, two in zip(memory.test_dataloader(), disk.test_dataloader(), strict=True):
        torch.testing.assert_close(one, two)
    assert disk.train_part.images.shape == (9, 3, 16, 16)
    torch.testing.assert_close(memory.mean, disk.mean)
    assert disk.preprocessing == memory.preprocessing
    (folder / "val" / "n02" / "3.JPEG").write_bytes(b"broken")
    with pytest.raises(ConfigurationError, match=r"3\.JPEG cannot be read"):
        list(disk.test_dataloader())


def test_parts_of_pictures_are_enlarged():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(6, 1, 32, 32)
    changed = zoom(ramp, 0.25, np.random.default_rng(0))
    assert changed.shape == ramp.shape
    assert changed.dtype == torch.uint8
    spread = changed[:, 0, 0].float().amax(1) - changed[:, 0, 0].float().amin(1)
    assert (spread <= 248).all()
    assert (spread[:4] < 220).all()  # a part is less of the ramp
    assert (spread > 90).all()
    torch.testing.assert_close(changed[:, :, 0], changed[:, :, 20])  # rows stay rows
    whole = zoom(ramp, 1.0, np.random.default_rng(0))
    assert (whole.float() - ramp.float()).abs().max() < 40  # up to the sides' proportion


@pytest.fixture(params=["save_to_disk", "hub"])
def dataset(tmp_path, request):
    """As datasets.DatasetDict.save_to_disk writes it, or as the hub keeps it."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    features = {"label": {"names": ["dark", "light"], "_type": "ClassLabel"}}
    for split, count in (("train", 12), ("test", 6)):
        cells = [{"bytes": picture((240 * (i % 2),) * 3), "path": None} for i in range(count)]
        table = pyarrow.table({"image": cells, "label": [i % 2 for i in range(count)]})
        if request.param == "hub":
            about = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": about})
            (tmp_path / "data").mkdir(exist_ok=True)
            parquet.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
            continue
        (tmp_path / split).mkdir()
        (tmp_path / split / "dataset_info.json").write_text(json.dumps({"features": features}))
        with ipc.new_stream(tmp_path / split / "data-00000-of-00001.arrow", table.schema) as file:
            file.write_table(table)
    return tmp_path


def test_pictures_of_datasets(dataset):
    data = HuggingFaceImages(dataset, [8, 8], batch_size=4, validation=0.25)
    data.setup()
    assert data.class_names == ("dark", "light")
    assert data.test_part.images.shape == (6, 3, 8, 8)
    means = data.test_part.images.float().mean((1, 2, 3))
    assert torch.equal(means, 240.0 * data.test_part.labels)
    assert data.preprocessing["resize"] == "fit"
    with pytest.raises(ConfigurationError, match="Did you mean 'label'"):
        HuggingFaceImages(dataset, [8, 8], label="labels").setup()
    with pytest.raises(ConfigurationError, match="no split 'validation'"):
        HuggingFaceImages(dataset, [8, 8], test="validation").setup()
    with pytest.raises(ConfigurationError, match="is not stored in the file"):
        HuggingFaceImages(dataset, [8, 8], image="label").setup()
    with pytest.raises(ConfigurationError, match="whole numbers from 0"):
        HuggingFaceImages(dataset, [8, 8], label="image").setup()


def test_broken_files_of_datasets_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_bytes(b"broken")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        HuggingFaceImages(tmp_path, [8, 8]).setup()
    table = pyarrow.table({"image": [{"bytes": b"broken", "path": None}], "label": [0]})
    parquet.write_table(table, path)
    with pytest.raises(ConfigurationError, match="train, row 0: it cannot be read as an image"):
        HuggingFaceImages(tmp_path, [8, 8]).setup()
    parquet.write_table(table.replace_schema_metadata({"huggingface": "{"}), path)
    with pytest.raises(ConfigurationError, match="does not describe"):
        HuggingFaceImages(tmp_path, [8, 8]).setup()
