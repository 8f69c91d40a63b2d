"""Merging LoRA files of every naming scheme and Textual Inversion embeddings, compared with diffusers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from alterbute_export.checkpoint.extra_files import read_extra_files
from alterbute_export.checkpoint.merge.lora_keys import make_module_finder, parse_key
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.checkpoint.tokenizer import read_tokenizer
from alterbute_export.errors import CheckpointError
from alterbute_export.export_bundle import add_token_embeddings, load_prompt_spec
from alterbute_export.packaging.manifest import describe_merged
from alterbute_export.sample_checkpoints.configs import UNETS
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from safetensors.torch import save_file

from tests.conftest import FamilyFolder

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


def draw_lora(outputs: int, inputs: int, rank: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Random `(down [rank,inputs], up [outputs,rank])` of a LoRA."""
    generator = torch.Generator().manual_seed(outputs + inputs)
    return torch.randn(rank, inputs, generator=generator), torch.randn(outputs, rank, generator=generator)


def peft_keys(down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"unet.{ATTENTION}.to_q.lora_A.weight": down, f"unet.{ATTENTION}.to_q.lora_B.weight": up}


def older_keys(down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    stem = f"unet.{ATTENTION}.processor.to_q_lora"
    return {f"{stem}.down.weight": down, f"{stem}.up.weight": up}


def kohya_keys(down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    stem = f"lora_unet_{ATTENTION.replace('.', '_')}_to_q"
    return {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}


NAMING_SCHEMES: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]], float]] = {
    "peft": (peft_keys, 1.0),
    "diffusers before peft": (older_keys, 1.0),
    "kohya with alpha 1 of rank 2": (kohya_keys, 0.5),
}


@pytest.mark.parametrize("scheme", NAMING_SCHEMES)
def test_lora_is_merged_as_in_its_paper(family_checkpoint: FamilyFolder, tmp_path: Path, scheme: str) -> None:
    write, scale = NAMING_SCHEMES[scheme]
    folder = family_checkpoint("sd15")
    down, up = draw_lora(32, 32)
    save_file(write(down, up), tmp_path / "style.safetensors")
    extras = read_extra_files(loras=[f"{tmp_path / 'style.safetensors'}:0.5"])
    plain = read_checkpoint(folder, "fp32").load("unet").state_dict()
    merged = read_checkpoint(folder, "fp32", extras).load("unet").state_dict()
    changed = f"{ATTENTION}.to_q.weight"
    assert torch.allclose(merged[changed], plain[changed] + 0.5 * scale * up @ down, atol=1e-6)
    assert [name for name in plain if not torch.equal(plain[name], merged[name])] == [changed]


def test_lora_of_a_text_encoder_is_merged(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    folder = family_checkpoint("sd15")
    down, up = draw_lora(24, 24)
    stem = f"lora_te_{TEXT.replace('.', '_')}"
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "words.safetensors")
    extras = read_extra_files(loras=[str(tmp_path / "words.safetensors")])
    plain = read_checkpoint(folder, "fp32").load("text_encoder").state_dict()
    merged = read_checkpoint(folder, "fp32", extras).load("text_encoder").state_dict()
    (changed,) = [name for name in plain if not torch.equal(plain[name], merged[name])]
    assert changed.endswith("layers.0.self_attn.q_proj.weight")
    assert torch.allclose(merged[changed], plain[changed] + up @ down, atol=1e-6)


def test_convolutions_and_alpha_in_metadata_are_merged(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    folder = family_checkpoint("sd15")
    down, up = torch.randn(2, 32, 3, 3), torch.randn(32, 2, 1, 1)
    stem = "unet.down_blocks.0.resnets.0.conv1"
    metadata = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "unet.r": 2})}
    tensors = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    save_file(tensors, tmp_path / "conv.safetensors", metadata=metadata)
    extras = read_extra_files(loras=[str(tmp_path / "conv.safetensors")])
    plain = read_checkpoint(folder, "fp32").load("unet").down_blocks[0].resnets[0].conv1.weight
    merged = read_checkpoint(folder, "fp32", extras).load("unet").down_blocks[0].resnets[0].conv1.weight
    assert torch.allclose(merged, plain + 2 * torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down), atol=1e-5)


def test_original_block_numbers_are_mapped_as_in_diffusers() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNETS["sdxl", "published"] | {"in_channels": 4})
    names = [name for name, module in unet.named_modules() if hasattr(module, "weight")]
    find_module = make_module_finder(names, 2)
    attention = "transformer_blocks_0_attn1_to_q"
    originals = [f"input_blocks_{block}_1_{attention}" for block in (4, 5, 7, 8)]
    originals += [f"middle_block_1_{attention}", *(f"output_blocks_{block}_1_{attention}" for block in range(6))]
    rank = torch.zeros(1, 1)
    for original in originals:
        keys = {f"lora_unet_{original}.lora_down.weight": rank, f"lora_unet_{original}.lora_up.weight": rank}
        keys |= {f"lora_unet_{original}.alpha": torch.tensor(1.0)}
        converted, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(keys, unet_config=unet.config)
        expected_modules = {re.sub(r"^unet\.|\.processor|_lora\.(up|down)\.weight$", "", key) for key in converted}
        assert {find_module(original)} == expected_modules
    for original, module in (
        ("input_blocks_1_0_in_layers_2", "down_blocks.0.resnets.0.conv1"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("time_embed_0", "time_embedding.linear_1"),
    ):
        assert find_module(original) == module


def test_every_module_of_a_published_unet_is_found_by_its_kohya_name() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNETS["sd15", "published"] | {"in_channels": 4})
    names = [name for name, module in unet.named_modules() if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))]
    find_module = make_module_finder(names, 2)
    for name in names:
        key = parse_key(f"lora_unet_{name.replace('.', '_')}.lora_down.weight")
        assert key is not None and find_module(key.module) == name


DAMAGES: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "dora": ({"lora_unet_x.dora_scale": torch.ones(1)}, "unknown key lora_unet_x.dora_scale"),
    "half a pair": ({f"unet.{ATTENTION}.to_q.lora_A.weight": torch.ones(2, 32)}, "lacks the up tensor"),
    "another part": (
        {"lora_te2_x.lora_down.weight": torch.ones(1, 1), "lora_te2_x.lora_up.weight": torch.ones(1, 1)},
        "changes text_encoder_2, which the checkpoint does not have",
    ),
    "another module": (
        {"lora_unet_x.lora_down.weight": torch.ones(1, 1), "lora_unet_x.lora_up.weight": torch.ones(1, 1)},
        "changes x, which unet/ does not have",
    ),
    "another width": (peft_keys(*draw_lora(48, 32)), "makes [48, 32]"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_lora_that_does_not_fit_is_named(family_checkpoint: FamilyFolder, tmp_path: Path, name: str) -> None:
    tensors, message_part = DAMAGES[name]
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError) as caught:
        extras = read_extra_files(loras=[str(tmp_path / "bad.safetensors")])
        read_checkpoint(family_checkpoint("sd15"), "fp32", extras).load("unet")
    assert message_part in str(caught.value)


def test_pickles_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    (tmp_path / "style.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a pickle.*python -c.*save_file"):
        read_extra_files(loras=[f"{tmp_path / 'style.pt'}:0.5"])
    with pytest.raises(CheckpointError, match=r"a pickle.*python -c.*save_file"):
        read_extra_files(embeddings=[str(tmp_path / "style.pt")])


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    save_file(peft_keys(*draw_lora(32, 32)), tmp_path / "style.safetensors")
    with pytest.raises(CheckpointError, match="weight 'much'"):
        read_extra_files(loras=[f"{tmp_path / 'style.safetensors'}:much"])


def add_embedding_files(folder: Path, files: list[str]) -> tuple[Any, Any, Any]:
    """Tokenizer, prompt graph and manifest entries of a checkpoint with embedding files."""
    checkpoint = read_checkpoint(folder, "fp32", read_extra_files(embeddings=files))
    tokenizer = read_tokenizer(folder)
    embeddings = add_token_embeddings(checkpoint, tokenizer)
    return tokenizer, load_prompt_spec(checkpoint, tokenizer, embeddings).graph, describe_merged((), embeddings)


def test_tokens_of_one_and_several_vectors_are_encoded_as_in_diffusers(
    family_checkpoint: FamilyFolder, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = family_checkpoint("sd15")
    embeddings = {"<one>": torch.randn(24), "<three>": torch.randn(3, 24)}
    save_file(embeddings, tmp_path / "learned_embeds.safetensors")
    tokenizer, graph, merged = add_embedding_files(folder, [str(tmp_path / "learned_embeds.safetensors")])
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=None,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for token, vectors in embeddings.items():
        pipeline.load_textual_inversion({token: vectors}, token=token)
    prompt = "a <three>red <one>"
    inner = tokenizer.backend.encode(prompt, add_special_tokens=False).ids
    ids = [tokenizer.start_id, *inner, tokenizer.end_id]
    ids += [tokenizer.pad_id] * (16 - len(ids))
    with torch.no_grad():
        states = graph(torch.tensor([ids]))
        diffusers_states, _ = pipeline.encode_prompt(prompt, torch.device("cpu"), 1, False)
    assert torch.allclose(states, diffusers_states, atol=1e-5)
    assert [(entry.kind, entry.file, entry.token) for entry in merged] == [
        ("embedding", "learned_embeds.safetensors", "<one>"),
        ("embedding", "learned_embeds.safetensors", "<three>"),
    ]


def test_the_end_of_a_prompt_is_found_when_a_new_token_has_a_higher_id(
    family_checkpoint: FamilyFolder, tmp_path: Path
) -> None:
    folder = family_checkpoint("sdxl")
    save_file({"clip_l": torch.randn(1, 24), "clip_g": torch.randn(1, 16)}, tmp_path / "cat-toy.safetensors")
    tokenizer, graph, _ = add_embedding_files(folder, [f"{tmp_path / 'cat-toy.safetensors'}:<cat-toy>"])
    (token_id,) = tokenizer.backend.encode("<cat-toy>", add_special_tokens=False).ids
    assert token_id > tokenizer.end_id
    red = tokenizer.backend.encode("red", add_special_tokens=False).ids
    rows = [[tokenizer.start_id, token_id, *inner, tokenizer.end_id] for inner in (red, [*red[::-1], 5])]
    ids = torch.tensor([row + [tokenizer.pad_id] * (16 - len(row)) for row in rows])
    with torch.no_grad():
        _, pooled = graph(ids)
    # Attention is causal: pooled at the new token instead of the end of the prompt, the two would be equal.
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-3)


def test_embeddings_that_do_not_fit_are_named(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    folder = family_checkpoint("sd15")
    save_file({"<wide>": torch.randn(7)}, tmp_path / "wide.safetensors")
    with pytest.raises(CheckpointError, match="is 7 wide"):
        add_embedding_files(folder, [str(tmp_path / "wide.safetensors")])
    save_file({"red</w>": torch.randn(24)}, tmp_path / "existing.safetensors")
    with pytest.raises(CheckpointError, match="which the tokenizer has already"):
        add_embedding_files(folder, [str(tmp_path / "existing.safetensors")])
    save_file({"<half>": torch.randn(24)}, tmp_path / "half.safetensors")
    with pytest.raises(CheckpointError, match="1 for text_encoder, 0 for text_encoder_2"):
        add_embedding_files(family_checkpoint("sdxl"), [str(tmp_path / "half.safetensors")])
