from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ste_lightning as ste
from ste_lightning.callbacks import LatentClipping
from ste_lightning.data import Digits
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.models import Classifier
from ste_lightning.models.networks import MLP, ConvNet
from ste_lightning.models.optimization import build_optimizer, build_schedule, schedule_steps

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

NETWORK = {"_target_": "ste_lightning.models.networks.MLP", "hidden": [32, 32]}


def trainer(folder, **settings):
    return L.Trainer(
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": folder,
            **settings,
        }
    )


def test_a_schedule_is_as_long_as_was_asked_for():
    trainer = SimpleNamespace(
        estimated_stepping_batches=6, num_training_batches=5, accumulate_grad_batches=2
    )
    assert schedule_steps({"schedule": "cosine"}, trainer) == 6
    assert schedule_steps({"schedule": "cosine", "epochs": 4}, trainer) == 12  # 2.5 batches: 3
    assert schedule_steps({"schedule": "constant", "epochs": 1}, trainer) == 3
    with pytest.raises(ConfigurationError, match="ends after 3 of 6 steps"):
        schedule_steps({"schedule": "cosine", "epochs": 1}, trainer)
    with pytest.raises(ConfigurationError, match=r"optimizer\.epochs=0"):
        schedule_steps({"schedule": "constant", "epochs": 0}, trainer)


def test_channels_last_changes_the_memory_alone():
    network = {
        "_target_": "ste_lightning.models.networks.ConvNet",
        "image": [3, 8, 8],
        "channels": [8, 16],
    }
    images = torch.randn(4, 3, 8, 8)
    torch.manual_seed(0)
    last = Classifier(network, 10, channels_last=True)
    seen = []
    last.network[0].register_forward_hook(lambda module, given, made: seen.extend([*given, made]))
    torch.manual_seed(0)
    first = Classifier(network, 10)
    losses = []
    for model in (last, first):
        loss = model(images).square().mean()
        loss.backward()
        losses.append(loss.detach())
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    torch.testing.assert_close(*losses)
    for (name, ours), theirs in zip(last.named_parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    assert last.hparams["channels_last"]
    packed = ste.pack(last.network.eval(), images)
    assert torch.equal(packed(images).argmax(1), last(images).argmax(1))


def test_images_need_not_be_square():
    assert ConvNet([1, 8, 12], 3, [4, 4]).eval()(torch.zeros(2, 1, 8, 12)).shape == (2, 3)


def blobs(labels, inputs=None):
    inputs = torch.randn(len(labels), 6) if inputs is None else inputs
    return DataLoader(TensorDataset(inputs, torch.tensor(labels)), batch_size=4)


def test_a_binary_network_learns_the_digits(tmp_path):
    L.seed_everything(0, verbose=False)
    model = Classifier({**NETWORK, "hidden": [128, 128]}, 10, {"name": "adam", "lr": 3e-3})
    run, data = trainer(tmp_path, max_epochs=4, callbacks=[LatentClipping()]), Digits()
    run.fit(model, data)
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/f1"} <= set(
        run.callback_metrics
    )
    scores = run.test(model, data, verbose=False)[0]
    assert scores["test/accuracy"] > 0.9
    assert scores["test/f1"] == pytest.approx(scores["test/accuracy"], abs=0.03)


def test_logged_accuracy_is_the_share_of_right_answers(tmp_path):
    model, data = Classifier(NETWORK, 10), Digits()
    scores = trainer(tmp_path).test(model, data, verbose=False)[0]
    with torch.no_grad():
        right = model.eval()(data.test_part.images).argmax(1) == data.test_part.labels
    assert scores["test/accuracy"] == pytest.approx(right.float().mean().item())


def test_fit_resumes_from_a_checkpoint_as_if_never_interrupted(tmp_path):
    data = Digits(batch_size=256)

    def start():
        L.seed_everything(1, verbose=False)
        return Classifier(NETWORK, 10, {"name": "adam", "lr": 1e-3, "schedule": "cosine"})

    whole = start()
    trainer(tmp_path, max_epochs=4).fit(whole, data)

    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = trainer.current_epoch == 1

    first = start()
    run = trainer(tmp_path, max_epochs=4, callbacks=[Stop()])
    run.fit(first, data)
    run.save_checkpoint(tmp_path / "half.ckpt")
    second = start()
    again = trainer(tmp_path, max_epochs=4)
    again.fit(second, data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert again.global_step == 4 * (1257 // 256)
    assert again.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_described_network_loads_from_its_checkpoint_alone(tmp_path):
    model = Classifier(NETWORK, 10)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, Digits(batch_size=256))
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = Classifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    images = torch.randn(5, 1, 8, 8)
    assert torch.equal(loaded.eval()(images), model.eval()(images))
    plain = torch.load(tmp_path / "model.ckpt", weights_only=True)["hyper_parameters"]
    assert plain["network"] == NETWORK


def test_a_network_given_as_a_module_is_passed_again(tmp_path):
    network = nn.Sequential(nn.Linear(6, 3))
    model = Classifier(network, 3)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, blobs([0, 1, 2, 0, 1, 2, 0, 1]))
    run.save_checkpoint(tmp_path / "model.ckpt")
    fresh = nn.Sequential(nn.Linear(6, 3))
    loaded = Classifier.load_from_checkpoint(
        tmp_path / "model.ckpt", network=fresh, weights_only=True
    )
    assert torch.equal(loaded.network[0].weight, network[0].weight)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, 0, 1, 2]])
def test_labels_out_of_range_are_refused(tmp_path, labels):
    model = Classifier(nn.Linear(6, 3), 3)
    with pytest.raises(ConfigurationError, match=r"labels='.*' cannot be used: use 0\.\.2"):
        trainer(tmp_path).fit(model, blobs(labels))


def test_inputs_that_are_not_finite_are_refused(tmp_path):
    inputs = torch.full((4, 6), float("nan"))
    with pytest.raises(ConfigurationError, match="nan"):
        trainer(tmp_path).fit(Classifier(nn.Linear(6, 3), 3), blobs([0, 1, 2, 0], inputs))


def test_logits_of_a_wrong_shape_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"Linear.*returns shape \(4, 2\)"):
        trainer(tmp_path).fit(Classifier(nn.Linear(6, 2), 3), blobs([0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 1}, "classes=1"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"optimizer": {"name": "adma"}}, "Did you mean 'adam'"),
        ({"optimizer": {"name": "adam", "schedule": "cosin"}}, "Did you mean 'cosine'"),
        ({"network": {"_target_": "ste_lightning.models.networks.MPL"}}, "network=.*MPL"),
        ({"network": {**NETWORK, "weight_quantizer": "sgin"}}, "Did you mean 'sign'"),
        ({"network": {"_target_": "builtins.dict"}}, "torch module"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Classifier(**{"network": NETWORK, "classes": 10, **settings})


def test_optimizers_and_schedules():
    parameters = [nn.Parameter(torch.zeros(1))]
    optimizer = build_optimizer(
        {"name": "sgd", "lr": 2.0, "momentum": 0.5, "schedule": "linear"}, parameters
    )
    assert optimizer.param_groups[0]["momentum"] == 0.5
    schedule = build_schedule({"schedule": "linear"}, optimizer, 4)
    rates = []
    for _ in range(5):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])
    with pytest.raises(ConfigurationError, match="unexpected keyword argument 'momentun'"):
        build_optimizer({"name": "sgd", "momentun": 0.5}, parameters)
    with pytest.raises(ConfigurationError, match="max_epochs"):
        build_schedule({"schedule": "cosine"}, optimizer, float("inf"))


@pytest.mark.parametrize(("network", "layer"), [(MLP, QuantLinear), (ConvNet, QuantConv2d)])
def test_only_the_inner_layers_are_quantized(network, layer):
    binary, twin = network(), network(weight_quantizer=None, input_quantizer=None)
    images = torch.randn(3, 1, 8, 8)
    assert binary(images).shape == twin(images).shape == (3, 10)
    inner = [module for module in binary.modules() if isinstance(module, layer)]
    assert inner
    assert all(set(module.quantized_weight().unique().tolist()) == {-1, 1} for module in inner)
    ends = [m for m in binary.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert not isinstance(ends[0], layer)
    assert not isinstance(ends[-1], layer)
    shapes = [sorted(tuple(p.shape) for p in n.parameters()) for n in (binary, twin)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: MLP(features=0), "features"),
        (lambda: MLP(hidden=[]), "hidden"),
        (lambda: ConvNet(image=[8, 8]), "image"),
        (lambda: ConvNet(channels=[8, 0]), "channels"),
        (lambda: ConvNet(channels=[4] * 5, pool=[0, 1, 2, 3]), "pool"),
    ],
)
def test_network_sizes_that_cannot_work_are_refused(make, argument):
    with pytest.raises(ConfigurationError, match=argument):
        make()


def test_a_checkpoint_cannot_name_any_callable() -> None:
    for spec in (
        {"_target_": "os.getcwd"},
        {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.load", "f": "x"}]},
    ):
        with pytest.raises(ConfigurationError, match="torch module class"):
            Classifier(spec, classes=2)


@pytest.mark.parametrize(
    ("quantizer", "value"),
    [
        (None, 0.0),
        ("sign", -1.0),
        ("step", 0.0),
        ({"map": "lsq", "bits": 1}, -1.0),
        ({"map": "lsq", "bits": 4}, 0.0),
        ({"map": "uniform", "bits": 2}, 0.0),
    ],
)
def test_convolutions_pad_with_a_level_of_their_inputs(quantizer: Any, value: float) -> None:
    net = ConvNet(input_quantizer=quantizer)
    assert [m.pad_value for m in net if isinstance(m, QuantConv2d)] == [value]


def test_labels_may_be_probabilities(tmp_path):
    labels = torch.tensor([0, 1, 2, 1])
    inputs, soft = torch.randn(4, 6), torch.eye(3)[labels]
    spec = NETWORK | {
        "features": 6,
        "classes": 3,
        "weight_quantizer": None,
        "input_quantizer": None,
    }
    losses = []
    for target in (labels, soft):
        torch.manual_seed(0)
        run, module = trainer(tmp_path, max_epochs=1), Classifier(spec, 3)
        run.fit(module, DataLoader(TensorDataset(inputs, target), 4))
        losses.append(run.callback_metrics)
    assert losses[0]["train/loss"] == pytest.approx(losses[1]["train/loss"].item(), rel=1e-6)
    assert losses[0]["train/accuracy"] == losses[1]["train/accuracy"]
    with pytest.raises(ConfigurationError, match="probabilities must have the shape"):
        trainer(tmp_path).fit(
            Classifier(spec, 3), DataLoader(TensorDataset(inputs, soft[:, :2]), 4)
        )
