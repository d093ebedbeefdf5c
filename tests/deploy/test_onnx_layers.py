"""Every packed layer computes in onnxruntime what it computes here, its weights at their width."""

import pytest
import torch
from quantizer_pairs import PAIRS

from ste_lightning.deploy.export.even_levels import even, line
from ste_lightning.deploy.layers.input_quantizers import LevelsInput
from ste_lightning.deploy.lower.layer import packed_layer
from ste_lightning.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantConvTranspose1d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantLinear,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

QUANTIZERS = {
    **PAIRS,
    "dorefa x uneven": ({"map": "dorefa", "bits": 2}, {"map": "n2uq", "bits": 3}),
    "groups": ({"map": "uniform", "bits": 4, "group_size": 2}, "sign"),
}
LAYERS = {
    "linear": (lambda **q: QuantLinear(38, 9, **q), [(5, 38), (2, 3, 38)]),
    "conv1d": (lambda **q: QuantConv1d(6, 8, 3, padding=1, groups=2, **q), [(2, 6, 9), (6, 9)]),
    "circular": (
        lambda **q: QuantConv2d(6, 7, 3, stride=2, padding=1, padding_mode="circular", **q),
        [(2, 6, 8, 7)],
    ),
    "conv2d": (
        lambda **q: QuantConv2d(18, 7, (3, 2), stride=(2, 1), padding=(2, 1), dilation=2, **q),
        [(2, 18, 8, 7), (18, 8, 7)],
    ),
    "padded": (lambda **q: QuantConv2d(18, 7, 3, padding=1, pad_value=1.0, **q), [(2, 18, 8, 7)]),
    "few channels": (lambda **q: QuantConv2d(6, 7, 3, padding=1, **q), [(2, 6, 8, 7)]),
    "conv3d": (lambda **q: QuantConv3d(18, 4, 2, padding=1, **q), [(2, 18, 5, 4, 6)]),
    "transposed1d": (
        lambda **q: QuantConvTranspose1d(6, 4, 3, stride=2, output_padding=1, groups=2, **q),
        [(2, 6, 5)],
    ),
    "transposed2d": (
        lambda **q: QuantConvTranspose2d(4, 6, (3, 2), stride=(2, 1), padding=1, bias=False, **q),
        [(2, 4, 5, 6)],
    ),
}


def run(layer, x, own=False):
    """Return a layer's result from onnxruntime, and its graph; perhaps of its own operators."""
    from onnx import TensorProto, helper

    from ste_lightning.deploy.export.onnx_layers import write_layer
    from ste_lightning.deploy.export.onnx_nodes import Nodes

    nodes = Nodes(onnxruntime=own)
    write_layer(nodes, layer, None, "x", x.dim(), [], "y")
    kind = TensorProto.FLOAT if x.is_floating_point() else TensorProto.INT64
    given = [helper.make_tensor_value_info("x", kind, [None] * x.dim())]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes.nodes, "g", given, result, list(nodes.tensors.values()))
    opsets = [helper.make_opsetid("", nodes.opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in nodes.domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=nodes.ir)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), graph


def trained(make, quantizers, shape):
    weight, inputs = QUANTIZERS[quantizers]
    torch.manual_seed(0)
    layer = make(weight_quantizer=weight, input_quantizer=inputs).train()
    for _ in range(3):
        layer(torch.randn(shape))
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return packed_layer(layer.eval(), "layer")


UNLIKE = {("conv1d", "groups"), ("transposed1d", "groups")}  # two do not divide their weights
CASES = [(name, q) for name in LAYERS for q in QUANTIZERS if (name, q) not in UNLIKE]


@pytest.mark.parametrize(("name", "quantizers"), CASES)
def test_layers(name, quantizers):
    make, shapes = LAYERS[name]
    layer = trained(make, quantizers, shapes[0])
    for shape in shapes:
        x = torch.randn(shape)
        expected = layer(x)
        y, graph = run(layer, x)
        assert torch.allclose(y, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    stored = {2: ("INT2", "UINT2"), 4: ("INT4", "UINT4"), 8: ("INT8",)}
    bits = 2 if layer.weight_codes.bits <= 2 else 4 if layer.weight_codes.bits <= 4 else 8
    kinds = [onnx.TensorProto.DataType.Name(t.data_type) for t in graph.initializer]
    assert sum(kind in stored[bits] for kind in kinds) == 1
    floats = [onnx.numpy_helper.to_array(t).size for t in graph.initializer if t.data_type == 1]
    assert layer.integer_weight().numel() not in floats  # no float copy of the weights


@pytest.mark.parametrize("weight", ["sign", "twn", {"map": "uniform", "bits": 4, "group_size": 2}])
def test_embeddings(weight):
    layer = packed_layer(QuantEmbedding(11, 12, weight_quantizer=weight).eval(), "layer")
    x = torch.randint(0, 11, (4, 3))
    y, _ = run(layer, x)
    assert torch.allclose(y, layer(x), rtol=0, atol=1e-6)


def test_convolutions_of_few_channels_multiply_floats():
    for name, product in (("few channels", "Conv"), ("conv2d", "MatMulInteger")):
        make, shapes = LAYERS[name]
        _, graph = run(trained(make, "4 x 8 bit", shapes[0]), torch.randn(shapes[0]))
        kinds = {node.op_type for node in graph.node}
        assert kinds & {"Conv", "MatMulInteger"} == {product}


def test_integer_layers_multiply_bytes():
    for quantizers in ("binary", "ternary x 2 bit", "4 x 8 bit", "8 x 4 bit", "tokens"):
        layer = trained(LAYERS["linear"][0], quantizers, (5, 38))
        _, graph = run(layer, torch.randn(5, 38))
        kinds = [node.op_type for node in graph.node]
        assert "MatMulInteger" in kinds
        if quantizers not in ("binary", "tokens"):
            assert kinds.count("QuantizeLinear") == 1
            assert "GreaterOrEqual" not in kinds


@pytest.mark.parametrize(
    "weight", ["bitnet", {"map": "uniform", "bits": 4}, {"map": "lsq", "bits": 8}]
)
@pytest.mark.parametrize("inputs", ["token", None])
def test_weights_stay_packed_in_onnxruntime(weight, inputs):
    torch.manual_seed(0)
    layer = QuantLinear(300, 9, weight_quantizer=weight, input_quantizer=inputs).train()
    layer(torch.randn(5, 300))
    layer = packed_layer(layer.eval(), "layer")
    for shape in ((5, 300), (2, 3, 300)):
        x = torch.randn(shape)
        y, graph = run(layer, x, own=True)
        assert torch.allclose(y, layer(x), rtol=0, atol=1e-5 * float(layer(x).abs().max()))
    kinds = [node.op_type for node in graph.node]
    assert ("MatMulNBits" in kinds) == (inputs == "token" or layer.weight_codes.bits == 4)


@pytest.mark.parametrize("quantizers", ["scaled x steps", "4 x 8 bit"])
def test_scales_are_part_of_onnxruntimes_products(quantizers):
    layer = trained(LAYERS["conv2d"][0], quantizers, (2, 18, 8, 7))
    x = torch.randn(2, 18, 8, 7)
    y, graph = run(layer, x, own=True)
    assert torch.allclose(y, layer(x), rtol=0, atol=1e-5 * float(layer(x).abs().max()))
    assert "MatMulIntegerToFloat" in [node.op_type for node in graph.node]


def levels(thresholds, scale=1.0):
    table = torch.tensor(thresholds)
    found = LevelsInput(8, 0, scale, *table.shape)
    found.thresholds.copy_(table)
    return found


def test_equal_steps_are_one_rounding_where_that_is_exact():
    for spec in ("lsq", "lsq_plus", "uniform", "pact", "dorefa"):
        for bits in (2, 4, 8):
            layer = QuantLinear(9, 5, input_quantizer={"map": spec, "bits": bits}).train()
            layer(torch.randn(50, 9))
            quantizer = packed_layer(layer.eval(), "layer").input
            assert even(quantizer) is not None, (spec, bits)
    assert even(levels([[0.15, 0.45, 0.7501]])) is None
    assert even(levels([[0.5, 1.5], [0.5, 1.5]])) is None
    # Thresholds of integers: those of a line, and those of none.
    t = [[0.5, 3.5, 5.5, 8.5], [-4.5, -2.5, -0.5, 1.5]]
    quantizer = levels(t)
    quantizer.factor[1] = -1
    factor, offset = line(quantizer, 20)
    x = torch.arange(-20, 21).float()
    for row, s, a, b in zip(t, (1, -1), factor, offset, strict=True):
        wanted = (s * x[:, None] >= torch.tensor(row)).sum(1)
        assert torch.equal((x * a + b).round().clamp(0, 4).long(), wanted)
    assert line(levels([[0.5, 1.5, 9.5]]), 20) is None
    assert line(levels([[0.5, 1.5, 9.5]]), 3) is not None  # the last one is out of reach
