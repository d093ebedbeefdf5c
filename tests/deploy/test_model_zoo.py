"""Families of the transformers library, tiny and random: trained a step, packed, loaded."""

import re

import pytest
import torch
from torch import Tensor

from ste_lightning import deploy
from ste_lightning.convert import quantize_, summary
from ste_lightning.deploy.compare import compared

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
T = pytest.importorskip("transformers")

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
WORDS = {**TINY, "vocab_size": 50}
GROUPED = {**WORDS, "num_key_value_heads": 1}
PATCHES = {**TINY, "image_size": 32, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
SPEECH = {**TINY, "conv_dim": (16, 16), "conv_stride": (4, 4), "conv_kernel": (8, 8),
          "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
          "num_conv_pos_embedding_groups": 2}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 64}
OPT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64,
       "vocab_size": 50, "word_embed_proj_dim": 32, "max_position_embeddings": 64}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": 50}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": 4}  # fmt: skip
WHISPER = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
           "vocab_size": 60, "num_mel_bins": 8, "max_source_positions": 50,
           "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
           "decoder_start_token_id": 1}  # fmt: skip
SEGFORMER = {**STAGES, "num_attention_heads": [1, 2, 3, 4], "decoder_hidden_size": 16}


def made(name, options):
    config = getattr(T, re.sub("(ForCausalLM|(LMHead|Encoder)?Model)$", "", name) + "Config")
    return getattr(T, name)(config(**options))


def tokens():
    return {"input_ids": torch.randint(2, 50, (2, 7))}


def picture():
    return {"pixel_values": torch.randn(2, 3, 32, 32)}


def large_picture():
    return {"pixel_values": torch.randn(2, 3, 64, 64)}


def sound():
    return {"input_values": torch.randn(2, 800)}


def spectrum():
    return {
        "input_features": torch.randn(2, 8, 100),
        "decoder_input_ids": torch.randint(2, 50, (2, 5)),
    }


ZOO = {
    "BertModel": (WORDS, tokens),
    "RobertaModel": ({**WORDS, "pad_token_id": 1}, tokens),
    "ElectraModel": ({**WORDS, "embedding_size": 16}, tokens),
    "AlbertModel": ({**WORDS, "embedding_size": 16}, tokens),
    "DistilBertModel": (DISTIL, tokens),
    "T5EncoderModel": (T5, tokens),
    "GPT2LMHeadModel": (GPT2, tokens),
    "OPTForCausalLM": (OPT, tokens),
    "LlamaForCausalLM": (GROUPED, tokens),
    "MistralForCausalLM": (GROUPED, tokens),
    "Qwen2ForCausalLM": (GROUPED, tokens),
    "GemmaForCausalLM": ({**GROUPED, "head_dim": 16}, tokens),
    "ViTModel": (PATCHES, picture),
    "DeiTModel": (PATCHES, picture),
    "CLIPVisionModel": (PATCHES, picture),
    "SwinModel": (SWIN, picture),
    "ConvNextModel": (STAGES, large_picture),
    "ResNetModel": ({**STAGES, "embedding_size": 8, "layer_type": "basic"}, large_picture),
    "MobileNetV2Model": ({"depth_multiplier": 0.25}, large_picture),
    "SegformerModel": (SEGFORMER, large_picture),
    "Wav2Vec2Model": (SPEECH, sound),
    "WhisperModel": (WHISPER, spectrum),
}
LSQ = {"map": "lsq", "bits": 4}
POLICIES = {
    "W4A4": {"weight": LSQ, "input": {**LSQ, "signed": True}},
    "W1.58A8": {"weight": "bitnet", "input": "token"},
    "W1A1": {"weight": "sign", "input": "sign"},
}


def flat(result):
    if isinstance(result, Tensor):
        return [result] if result.is_floating_point() else []
    if isinstance(result, dict):
        result = list(result.values())
    return [t for part in result for t in flat(part)] if isinstance(result, (list, tuple)) else []


CASES = [
    (family, policy)
    for family in ZOO
    for policy in POLICIES
    if policy != "W1A1" or "pixel_values" in ZOO[family][1]()
]


@pytest.mark.parametrize(("family", "policy"), CASES)
def test_packed_and_loaded_give_the_same(family, policy, tmp_path):
    torch.manual_seed(0)
    options, sample = ZOO[family]
    model = made(family, options)
    quantize_(model, [{"match": "*", **POLICIES[policy]}])
    model.train()
    sum(y.float().pow(2).mean() for y in flat(model(**sample()))).backward()
    model.eval()
    packed = deploy.pack(model, sample())
    size = deploy.save(packed, tmp_path / "net.safetensors")
    promised = summary(model).deployed_bytes
    assert size <= 1.05 * promised + 8192 + 64 * len(packed.graph.steps)
    loaded = deploy.load(tmp_path / "net.safetensors")
    worst = 0.0
    for rows in (2, 1, 4):
        given = {key: torch.cat([x, x])[:rows] for key, x in sample().items()}
        with torch.no_grad():
            wanted = flat(model(**given))
        ours, theirs = flat(packed(**given)), flat(loaded(**given))
        assert len(ours) == len(theirs) > 0
        for a, b, c in zip(ours, theirs, wanted, strict=False):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
            difference = float((a - c).norm()) / (float(c.norm()) + 1e-6)
            assert difference <= 1e-2
            worst = max(worst, difference)
        # sums within rounding of a threshold may fall on its other side; all else is equal
        assert all(row.equal for row in compared(model, packed, **given))
    print(f"{family} {policy}: {size} bytes, promised {promised}; difference {worst:.0e}")


@pytest.mark.parametrize(
    ("family", "options"), [("LlamaForCausalLM", GROUPED), ("GPT2LMHeadModel", GPT2)]
)
def test_text_is_generated_by_the_packed_copy(family, options):
    torch.manual_seed(0)
    model = made(family, options)
    quantize_(model, [{"match": "*", **POLICIES["W1.58A8"]}])
    packed = deploy.pack(model.eval())
    ids = torch.randint(1, 50, (1, 4))
    options = {"max_new_tokens": 6, "do_sample": False, "use_cache": True, "pad_token_id": 0}
    assert torch.equal(packed.module.generate(ids, **options), model.generate(ids, **options))
