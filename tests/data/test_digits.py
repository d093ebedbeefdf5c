import pytest
import torch

from ste_lightning.data import Digits
from ste_lightning.data.in_memory import Shuffled
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
    plain, shifted = ready(batch_size=200), ready(batch_size=200, shift=1)
    before, after = (
        plain.train_dataloader().dataset[0][0],
        shifted.train_dataloader().dataset[0][0],
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


def test_every_epoch_is_a_new_order_of_the_same_images():
    data = ready(batch_size=128, shift=2)
    loader = data.train_dataloader()
    first, second = [labels for _, labels in loader], [labels for _, labels in loader]
    assert len(first) == len(second) == len(loader) == 9  # the short rest is left out
    assert not torch.equal(torch.cat(first), torch.cat(second))
    plain = ready(batch_size=128).train_dataloader().dataset
    rows = {tuple(image.flatten().tolist()) for step in range(9) for image in plain[step][0]}
    assert len(rows) == 9 * 128
    again = [labels for _, labels in ready(batch_size=128, shift=2).train_dataloader()]
    assert torch.equal(torch.cat(first), torch.cat(again))


def test_batches_depend_on_seed_epoch_and_step_alone():
    data = ready(batch_size=128, shift=2)
    whole = data.train_dataloader()
    torch.manual_seed(5)
    steps = [batch for _ in range(2) for batch in whole]
    state = torch.get_rng_state()
    assert torch.equal(state, torch.manual_seed(5).get_state())  # nothing drawn from torch
    resumed = ready(batch_size=128, shift=2).train_dataloader()
    resumed.load_state_dict({"epoch": 1, "step": 4})
    images, labels = next(iter(resumed))
    assert torch.equal(images, steps[13][0])
    assert torch.equal(labels, steps[13][1])
    at_start = ready(batch_size=128, shift=2).train_dataloader()
    at_start.sampler.set_epoch(1)  # as Lightning does after a checkpoint at the end of an epoch
    assert torch.equal(next(iter(at_start))[0], steps[9][0])
    older = ready(batch_size=128, shift=2).train_dataloader()
    older.load_state_dict({"step": 13})  # of a checkpoint that counted steps from the start
    assert torch.equal(next(iter(older))[0], steps[13][0])


def test_processes_share_the_batches_of_a_step():
    part, batch = ready().train_part, 50
    whole = (part.images, part.labels)
    parts = [Shuffled(*whole, batch, 7, rank, 2) for rank in range(2)]
    alone = Shuffled(*whole, 2 * batch, 7)
    assert parts[0].steps == alone.steps == 12
    both = torch.cat([one[3][0] for one in parts])
    assert torch.equal(both, alone[3][0])


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


def test_a_share_of_the_training_labels_is_wrong():
    right, wrong = ready(), ready(wrong_labels=0.25)
    differ = right.train_part.labels != wrong.train_part.labels
    assert differ.sum() == round(0.25 * 1257)
    assert torch.equal(right.train_part.images, wrong.train_part.images)
    assert torch.equal(right.test_part.labels, wrong.test_part.labels)
    assert torch.equal(right.validation_part.labels, wrong.validation_part.labels)
    moved = (wrong.train_part.labels - right.train_part.labels)[differ] % 10
    assert set(moved.tolist()) == set(range(1, 10))
    with pytest.raises(ConfigurationError, match="wrong_labels"):
        Digits(wrong_labels=1.0)
