"""Models of the transformers library keep ranges, scales and policy in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ste_lightning.convert import dequantize_, quantize_

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_language_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    import ste_lightning.convert.pretrained  # noqa: F401  registers the method

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    weight = {"map": "lsq", "bits": 4, "granularity": "channel"}
    policy = [
        {"match": "*", "weight": weight, "input": {"map": "uniform", "bits": 8}},
        {"match": "*.mlp.*", "weight": {"map": "apot", "bits": 4}, "input": "token"},
        {"match": "*.c_fc", "weight": {"map": "lsq", "bits": 4, "group_size": 8}},
    ]
    report = quantize_(model, policy)
    assert len(report.quantized) == 8  # every Conv1D; not the tied head, not the positions
    index = torch.randint(50, (2, 8))
    model.train()(index, labels=index).loss.backward()
    model.save_pretrained(tmp_path)
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    wanted = model.eval()(index).logits
    assert torch.equal(loaded.eval()(index).logits, wanted)
    loaded.train()(index, labels=index).loss.backward()
    assert "quantized already" in str(quantize_(loaded, policy))
    dequantize_(loaded)
    loaded.save_pretrained(tmp_path / "float")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "float")
    assert torch.equal(again.eval()(index).logits, loaded.eval()(index).logits)
    assert not torch.equal(again(index).logits, wanted)
