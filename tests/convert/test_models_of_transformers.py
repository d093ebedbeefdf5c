"""Float state dicts of transformers models, tied heads and adapters, quantized and back."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from ste_lightning import deploy
from ste_lightning.convert import dequantize_, quantize_, summary
from ste_lightning.layers import QuantizedLayer

T = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

LSQ = {"map": "lsq", "bits": 4}
POLICY = {"match": "*", "weight": {**LSQ, "granularity": "channel"}, "input": LSQ}
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16,
        "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
LLAMA = {**TINY, "vocab_size": 50, "num_key_value_heads": 1, "tie_word_embeddings": True}


def tokens() -> dict[str, Any]:
    return {"input_ids": torch.randint(2, 50, (2, 7))}


def pictures() -> dict[str, Any]:
    return {"pixel_values": torch.randn(2, 3, 32, 32)}


MODELS = {
    "gpt2": (lambda: T.GPT2LMHeadModel(T.GPT2Config(**GPT2)), tokens),
    "bert": (
        lambda: T.BertForSequenceClassification(T.BertConfig(**TINY, vocab_size=50)),
        tokens,
    ),
    "vit": (
        lambda: T.ViTForImageClassification(T.ViTConfig(**TINY, image_size=32, patch_size=8)),
        pictures,
    ),
    "llama": (lambda: T.LlamaForCausalLM(T.LlamaConfig(**LLAMA)), tokens),
}


@pytest.mark.parametrize("name", MODELS)
def test_float_state_dicts_load_strictly_and_come_back(name: str) -> None:
    make, sample = MODELS[name]
    torch.manual_seed(0)
    plain, model, again = make().eval(), make(), make()
    report = quantize_(model, POLICY)
    assert len(report.quantized) >= 8
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.load_state_dict(plain.state_dict(), strict=True)
    named = {str(w.message).split("'")[1] for w in said if "start from" in str(w.message)}
    assert named == set(report.quantized)
    for layer in model.modules():
        if isinstance(layer, QuantizedLayer):
            weight = layer.latent_weight().detach()
            wanted = layer.weight_quantizer.first_step("scale", weight)
            assert torch.allclose(layer.weight_quantizer.scale, wanted)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())
    found = again.load_state_dict(state, strict=False)
    assert not found.missing_keys
    assert all("_quantizer." in key for key in found.unexpected_keys)
    model.train()(**sample())
    other = make()
    quantize_(other, POLICY)
    other.load_state_dict(model.state_dict(), strict=True)
    given = sample()
    assert torch.equal(other.eval()(**given).logits, model.eval()(**given).logits)
    if name in ("gpt2", "llama"):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    dequantize_(model)
    again.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize(("name", "length"), [("gpt2", 7), ("bert", 7), ("vit", 17), ("llama", 7)])
def test_products_are_counted_per_sample_with_those_of_attention(name: str, length: int) -> None:
    make, sample = MODELS[name]
    model, given = make(), sample()
    wanted = summary(model, given)
    quantize_(model, POLICY)
    for batch in (given, {key: value[:1] for key, value in given.items()}):
        found = summary(model, batch)
        assert sum(row.score_macs or 0 for row in found.layers) == 2 * 2 * length**2 * 32
        assert sum(row.macs or 0 for row in found.layers) == sum(
            row.macs or 0 for row in wanted.layers
        )


@pytest.mark.parametrize("first", ["quantizers", "adapters"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_adapters_stay_float_and_are_packed_with_what_they_adapt(
    name: str, first: str, tmp_path: Any
) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model, given = MODELS[name][0](), tokens()
    targets = ["c_attn"] if name == "gpt2" else ["q_proj", "v_proj"]
    config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    policy = {"match": "*", "weight": "bitnet", "input": "token"}
    if first == "quantizers":
        quantize_(model, policy)
    model = peft.get_peft_model(model, config)
    if first == "adapters":
        quantize_(model, policy)
    quantized = [n for n, m in model.named_modules() if isinstance(m, QuantizedLayer)]
    assert any("base_layer" in n for n in quantized)
    assert not any("lora" in n for n in quantized)
    model.train()(**given).logits.square().mean().backward()
    learned = {n for n, p in model.named_parameters() if p.grad is not None}
    assert learned
    assert all("lora" in n for n in learned)
    packed = deploy.pack(model.eval(), given)
    deploy.save(packed, tmp_path / "net.safetensors")
    loaded = deploy.load(tmp_path / "net.safetensors")
    wanted = model(**given).logits
    assert torch.allclose(loaded(**given)["logits"], wanted, atol=1e-4)
