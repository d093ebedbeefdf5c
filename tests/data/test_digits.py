import pytest
import torch

from ste_lightning.data import Digits
from ste_lightning.errors import ConfigurationError


def ready(**settings) -> Digits:
    data = Digits(**settings)
    data.setup("fit")
    return data


def test_parts_are_disjoint_complete_and_stratified():
    data = ready(seed=3)
    parts = [data.train_part, data.validation_part, data.test_part]
    assert [len(part) for part in parts] == [1257, 180, 360]
    for part in parts:
        share = torch.bincount(part.labels, minlength=10) / len(part)
        assert (share - 0.1).abs().max() < 0.01
    rows = {tuple(image.flatten().tolist()) for part in parts for image in part.images}
    assert len(rows) == 1797  # no image is in two parts


def test_standardization_uses_the_training_part_only():
    data = ready()
    assert data.train_part.images.mean().item() == pytest.approx(0, abs=1e-5)
    assert data.train_part.images.std().item() == pytest.approx(1, abs=1e-5)
    raw = data.test_part.images * data.std + data.mean
    assert torch.allclose(raw, raw.round(), atol=1e-4)
    assert raw.round().unique().tolist() == list(range(17))


def test_the_seed_decides_the_split():
    first, same, other = ready(seed=0), ready(seed=0), ready(seed=1)
    assert torch.equal(first.test_part.images, same.test_part.images)
    assert not torch.equal(first.test_part.labels, other.test_part.labels)


def test_loaders_give_batches_of_images_and_labels():
    data = ready(batch_size=100)
    batches = list(data.train_dataloader())
    assert len(batches) == 12
    images, labels = batches[0]
    assert images.shape == (100, 1, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 180
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 360


def test_shifting_moves_training_images_only():
    plain, shifted = ready(), ready(shift=1)
    index = list(range(200))
    before, after = (
        plain.train_part.__getitems__(index)[0],
        shifted.train_part.__getitems__(index)[0],
    )
    changed = (before != after).flatten(1).any(1).float().mean()
    assert 0.7 < changed < 0.99  # one move in nine is none at all
    assert torch.equal(plain.test_part.images, shifted.test_part.__getitems__(range(360))[0])
    unmoved = before[:, :, 1:-1, 1:-1]
    candidates = [after[:, :, r : r + 6, c : c + 6] for r in range(3) for c in range(3)]
    hits = torch.stack([(moved == unmoved).flatten(1).all(1) for moved in candidates])
    assert hits.any(0).all()


def test_single_items_match_batches():
    data = ready()
    image, label = data.train_part[7]
    assert torch.equal(image, data.train_part.images[7])
    assert label == data.train_part.labels[7]


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"validation": 0.0}, "validation"),
        ({"test": 1.0}, "test"),
        ({"validation": 0.5, "test": 0.5}, "validation"),
        ({"shift": 8}, "shift"),
        ({"seed": -1}, "seed"),
        ({"num_workers": -1}, "num_workers"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, argument):
    with pytest.raises(ConfigurationError, match=argument):
        Digits(**settings)


def test_a_batch_larger_than_the_training_part_is_refused():
    with pytest.raises(ConfigurationError, match="batch_size=1258"):
        ready(batch_size=1258)
