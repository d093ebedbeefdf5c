"""A packed network in a service: threads share it, and it lets others run."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.data import Digits
from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.models.networks import ConvNet


def test_threads_share_a_network_from_the_first_call_on():
    torch.manual_seed(0)
    net = nn.Sequential(
        QuantConv2d(8, 32, 3, padding=1), nn.BatchNorm2d(32), nn.Flatten(), QuantLinear(512, 300)
    )
    packed = deploy.pack(net.eval())
    batches = [torch.randn(64, 8, 4, 4) for _ in range(8)]
    expected = [deploy.pack(net)(x) for x in batches]
    together = threading.Barrier(4)

    def serve(worker):
        together.wait()
        return [torch.equal(packed(x), y) for x, y in zip(batches, expected, strict=True)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(found) for found in pool.map(serve, range(4)))


def test_other_threads_run_during_a_product():
    torch.manual_seed(0)
    packed = deploy.pack(nn.Sequential(QuantLinear(4096, 4096)))
    x = torch.randn(4096, 4096)
    packed(x[:64])  # compiled and laid out
    begun, done, ticks = threading.Event(), threading.Event(), 0

    def product():
        begun.set()
        packed(x)
        done.set()

    worker = threading.Thread(target=product)
    worker.start()
    begun.wait()
    while not done.is_set():
        time.sleep(1e-3)
        ticks += 1
    worker.join()
    assert ticks > 20  # a product that held the GIL would let two or three pass


def test_no_sign_differs_on_a_whole_test_set():
    torch.manual_seed(0)
    data = Digits(batch_size=64)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    net = ConvNet(channels=(16, 32, 32))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for x, y in data.train_dataloader():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    packed = deploy.pack(net)
    seen: list[list[torch.Tensor]] = [[], []]
    for found, network in zip(seen, (net, packed), strict=True):
        for module in network.modules():
            if isinstance(module, (QuantConv2d, deploy.PackedConv)):
                module.register_forward_pre_hook(
                    lambda m, args, found=found: found.append(m.quantized_input(args[0]))
                )
    images = torch.cat([x for x, _ in data.test_dataloader()])
    with torch.no_grad():
        same = (net(images).argmax(1) == packed(images).argmax(1)).all()
    trained, ours = seen
    assert len(images) == 360
    assert len(trained) == len(ours) == 2
    assert sum(int((a != b).sum()) for a, b in zip(trained, ours, strict=True)) == 0
    assert same
