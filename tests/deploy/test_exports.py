"""Every exported network predicts in its runtime what the packed one predicts here."""

import json
import math
import shutil

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.export import export, integer_state_dict, runtime
from ste_lightning.deploy.export.torch_form import PlainNetwork
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantLinear

LSQ = {"map": "lsq", "bits": 2, "signed": False}


def network(weight="sign", input="sign", pad_value=-1.0) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        QuantConv2d(
            8,
            8,
            3,
            padding=1,
            weight_quantizer=weight,
            input_quantizer=input,
            pad_value=pad_value,
        ),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(8),
        QuantConv2d(8, 6, 3, stride=2, weight_quantizer=weight, input_quantizer=input),
        nn.Flatten(),
        QuantLinear(6, 4, weight_quantizer=weight, input_quantizer=input),
    )
    net.train()
    for _ in range(3):
        net(torch.randn(32, 1, 8, 8))
    return net.eval()


CASES = {
    "binary": network,
    "ternary x 2 bit": lambda: network("ternary", LSQ, 0.0),
    "4 x 8 bit": lambda: network({"map": "uniform", "bits": 4}, {"map": "uniform", "bits": 8}, 0.0),
    "steps": lambda: network("sign", "step", 0.0),
}


RUNS = [
    *[("torch_export", case) for case in ("binary", "ternary x 2 bit", "steps")],
    ("onnx", "binary"),
    *[pytest.param(f, "4 x 8 bit", marks=pytest.mark.slow) for f in ("torch_export", "onnx")],
    *[pytest.param("aoti", case, marks=pytest.mark.slow) for case in ("binary", "ternary x 2 bit")],
    ("qonnx", "binary"),
    ("qonnx", "ternary x 2 bit"),
]


@pytest.mark.parametrize(("format", "case"), RUNS)
def test_runtimes_agree(format, case, tmp_path):
    needed = {"onnx": ["onnxscript", "onnxruntime"], "qonnx": ["onnxscript", "qonnx"]}
    for package in needed.get(format, []):
        pytest.importorskip(package)
    if format == "aoti" and not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("needs a C++ compiler")
    packed = deploy.pack(CASES[case](), info={"classes": ["a", "b", "c", "d"]})
    x = torch.randn(7, 1, 8, 8)
    expected = packed(x)
    path = export(packed, tmp_path / "net", format, x[:1])
    if format != "aoti":  # compiled code names its headers
        assert b"site-packages" not in path.read_bytes()  # nothing about the machine
    run = runtime(path, format)
    for batch in (x, x[:1]):
        assert torch.allclose(run(batch), expected[: len(batch)], rtol=0, atol=1e-5)
    if format == "qonnx":
        check_qonnx(path, case, x[:1], expected[:1])
    if format == "onnx":
        check_onnx(path, case)


def check_onnx(path, case):
    """Weights lie at their width, sums are of whole numbers, and the file tells of itself."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QLinearConv") == (2 if case == "binary" else 0)
    assert kinds.count("MatMulInteger") == 1
    # the float one, and those of few channels whose results are floats
    assert kinds.count("Conv") == (1 if case == "binary" else 3)
    tensors = model.graph.initializer
    stored = [t for t in tensors if onnx.TensorProto.DataType.Name(t.data_type) in ("INT2", "INT4")]
    assert sorted(math.prod(t.dims) for t in stored) == [24, 432, 576]
    assert all(onnx.numpy_helper.to_array(t).size <= 72 for t in tensors if t.data_type == 1)
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["classes"] == ["a", "b", "c", "d"]
    assert set(told["bits"].values()) <= {"1x1", "4x8"}


def check_qonnx(path, case, x, expected):
    """It runs as written and cleaned up, and tells the types of its integers."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.util.cleanup import cleanup_model

    nodes = pytest.importorskip("onnx").load(path).graph.node
    kinds = [node.op_type for node in nodes]
    wanted = {
        "binary": ["BipolarQuant"] * 6,
        "ternary x 2 bit": ["MultiThreshold", "Quant"] * 3,
    }
    assert sorted(k for k in kinds if k in wanted[case]) == sorted(wanted[case])
    model = ModelWrapper(str(path))
    (given,) = model.graph.input
    assert model.get_tensor_shape(given.name) == [1, 1, 8, 8]
    cleaned = cleanup_model(model)
    y = execute_onnx(cleaned, {cleaned.graph.input[0].name: x.numpy()})
    y = torch.from_numpy(y[cleaned.graph.output[0].name])
    assert torch.allclose(y, expected, rtol=0, atol=1e-5)
    typed = model.transform(InferDataTypes())
    found = {
        typed.get_tensor_datatype(n.output[0]).name for n in nodes if n.op_type in wanted[case]
    }
    assert found == ({"BIPOLAR"} if case == "binary" else {"UINT2", "INT2"})


def test_all_sizes_are_fixed(tmp_path):
    packed = deploy.pack(network())
    x = torch.randn(5, 1, 8, 8)
    path = export(packed, tmp_path / "net", "torch_export", x[:2], dynamic=False)
    assert torch.allclose(runtime(path, "torch_export", 2)(x), packed(x), rtol=0, atol=1e-5)
    with pytest.raises((RuntimeError, AssertionError)):
        runtime(path, "torch_export")(x)


def test_a_batch_that_the_exporter_fixes_is_refused(tmp_path):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    net = nn.Sequential(nn.EmbeddingBag(9, 8), QuantLinear(8, 4)).eval()
    words = torch.randint(9, (3, 5))
    packed = deploy.pack(net, words)
    with pytest.raises(ConfigurationError, match="use dynamic=False"):
        export(packed, tmp_path / "net", "onnx", words)
    path = export(packed, tmp_path / "net", "onnx", words, dynamic=False)
    assert torch.allclose(runtime(path, "onnx")(words), packed(words), rtol=0, atol=1e-5)


def test_every_number_of_thresholds_in_torch_operators():
    torch.manual_seed(0)
    for bits in (1, 3, 5, 8):
        spec = {"map": "uniform", "bits": bits, "symmetric": False}
        layer = QuantLinear(9, 5, input_quantizer=spec)
        layer.train()
        layer(torch.randn(50, 9))
        packed = deploy.pack(nn.Sequential(layer.eval()))
        x = 2 * torch.randn(300, 9)
        assert torch.allclose(PlainNetwork(packed)(x), packed(x), atol=1e-5)


def test_integer_state_dict():
    net = network()
    found = integer_state_dict(deploy.pack(net, fold=False))
    assert found["2.weight"].dtype == torch.int8
    assert torch.equal(found["2.weight"].float(), net[2].quantized_weight().detach())
    assert torch.equal(found["0.weight"], net[0].weight)


def test_without_a_compiler_aoti_says_so(tmp_path):
    from torch._inductor import config

    nowhere = config.patch({"cpp.cxx": ("no-such-compiler",)})
    with nowhere, pytest.raises(ConfigurationError, match="needs a C\\+\\+ compiler"):
        export(deploy.pack(network()), tmp_path / "a", "aoti", torch.zeros(1, 1, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_wrong_exports_are_refused(tmp_path):
    packed = deploy.pack(network())
    with pytest.raises(ConfigurationError, match="onnx"):
        export(packed, tmp_path / "a", "onx", torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigurationError, match="dynamic"):
        export(packed, tmp_path / "a", "onnx", torch.zeros(1, 1, 8, 8), dynamic="some")
    with pytest.raises(ConfigurationError, match="pack"):
        export(network(), tmp_path / "a", "onnx", torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigurationError, match="format"):
        runtime(tmp_path / "a", "x")
