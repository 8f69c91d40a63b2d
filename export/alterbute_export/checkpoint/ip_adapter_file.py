"""Published IP-Adapter files: their kind and sizes, and the check against UNet and image encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from alterbute_export.checkpoint.ip_adapter_shapes import adapter_shapes, base_shapes, resampler_shapes
from alterbute_export.checkpoint.layout import open_weights
from alterbute_export.errors import CheckpointError
from alterbute_export.modules.ip_adapter_projectors import HEAD_DIM

Shapes = Mapping[str, tuple[int, ...]]

_ENCODERS: Final[Mapping[tuple[str, int], str]] = {
    ("base", 1024): "OpenCLIP ViT-H/14 (models/image_encoder of h94/IP-Adapter)",
    ("base", 1280): "OpenCLIP ViT-bigG/14 (sdxl_models/image_encoder of h94/IP-Adapter)",
    ("base", 768): "CLIP ViT-L/14",
    ("plus", 1280): "OpenCLIP ViT-H/14 (models/image_encoder of h94/IP-Adapter)",
    ("plus", 1664): "OpenCLIP ViT-bigG/14 (sdxl_models/image_encoder of h94/IP-Adapter)",
    ("plus", 1024): "CLIP ViT-L/14",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """Kind and sizes of an IP-Adapter file, read from the header of the file.

    Args:
        path: The file.
        kind: "base" projects the encoder's image embedding, "plus" resamples its penultimate hidden states.
        tokens: Identity tokens Ti.
        dim: Width D of a token.
        encoder_width: Width of the projector's input, an output of the image encoder.
        shapes: Shape of every tensor, by key.
    """

    path: Path
    kind: Literal["base", "plus"]
    tokens: int
    dim: int
    encoder_width: int
    shapes: Shapes

    @property
    def name(self) -> str:
        """The file's name without its folder, as messages name it."""
        return self.path.name


def read_adapter(path: Path) -> AdapterFile:
    """Kind and sizes of an adapter file, from its header; no tensor is loaded.

    Raises:
        CheckpointError: the file is not an IP-Adapter, or of a kind that is not supported.
    """
    with open_weights(path) as file:
        shapes = {name: tuple(int(n) for n in file.get_slice(name).get_shape()) for name in file.keys()}
    if "image_proj.latents" in shapes:
        latents = _shape(path, shapes, "image_proj.latents", 3)
        proj_in = _shape(path, shapes, "image_proj.proj_in.weight", 2)
        proj_out = _shape(path, shapes, "image_proj.proj_out.weight", 2)
        return AdapterFile(
            path=path, kind="plus", tokens=latents[1], dim=proj_out[0], encoder_width=proj_in[1], shapes=shapes
        )
    if "image_proj.norm.weight" in shapes and "image_proj.proj.weight" in shapes:
        (dim,) = _shape(path, shapes, "image_proj.norm.weight", 1)
        width, encoder_width = _shape(path, shapes, "image_proj.proj.weight", 2)
        return AdapterFile(
            path=path, kind="base", tokens=width // dim, dim=dim, encoder_width=encoder_width, shapes=shapes
        )
    first_key = next(iter(sorted(shapes)), "no key")
    example = next((name for name in sorted(shapes) if name.startswith("image_proj.")), first_key)
    raise CheckpointError(
        f"{path.name} is no IP-Adapter of a known kind ({example})",
        "image_proj.proj.weight (base) or image_proj.latents (plus); `full` and FaceID adapters are not supported",
        "use a base or plus adapter",
    )


def check_adapter(adapter: AdapterFile, unet: Any, encoder: Any, tokens: int) -> None:
    """Check that an adapter fits the UNet and the image encoder.

    Args:
        adapter: The adapter's kind and shapes.
        unet: diffusers' UNet; a meta model is enough.
        encoder: The image encoder; a meta model is enough.
        tokens: Identity tokens Ti of the settings.

    Raises:
        CheckpointError: they do not fit. The message names the key and both shapes or, for a wrong image encoder, the
            encoder that the adapter takes and the one that is there.
    """
    config = encoder.config
    width = int(config.projection_dim if adapter.kind == "base" else config.hidden_size)
    if width != adapter.encoder_width:
        raise CheckpointError(
            f"the adapter {adapter.name} does not fit the image encoder: it takes {adapter.encoder_width} numbers"
            f"{_encoder_name(adapter.kind, adapter.encoder_width)}, image_encoder/ gives {width}"
            f"{_encoder_name(adapter.kind, width)}",
            "the image encoder that the adapter was trained with",
            "choose it with --image-encoder DIR; a vit-h adapter never goes with the bigG encoder",
        )
    expected_shapes = list_adapter_shapes(adapter, unet, tokens)
    for name, shape in expected_shapes.items():
        if name not in adapter.shapes:
            raise CheckpointError(
                f"{adapter.name} lacks key {name}",
                f"it, {list(shape)}",
                "use the adapter that was trained with this UNet",
            )
        if adapter.shapes[name] != shape:
            raise CheckpointError(
                f"{adapter.name} key {name} is {list(adapter.shapes[name])}",
                f"{list(shape)}, by unet/config.json, image_encoder/config.json and `identity.tokens`",
                "use the adapter, UNet and image encoder that were trained together",
            )
    for name in sorted(adapter.shapes.keys() - expected_shapes.keys()):
        raise CheckpointError(
            f"{adapter.name} has an unknown key {name}",
            f"the keys of a {adapter.kind} adapter",
            "use an adapter of this UNet",
        )


def list_adapter_shapes(adapter: AdapterFile, unet: Any, tokens: int) -> dict[str, tuple[int, ...]]:
    """Every key that an adapter of this kind must have, with the shape that fits UNet and image encoder.

    Args:
        adapter: The adapter; its kind, encoder width and, for "plus", inner widths are taken from the file.
        unet: diffusers' UNet; a meta model is enough.
        tokens: Identity tokens Ti.
    """
    dim, width = int(unet.config.cross_attention_dim), adapter.encoder_width
    if adapter.kind == "base":
        return adapter_shapes(unet, base_shapes(tokens, dim, width))
    inner = adapter.shapes["image_proj.latents"][2]
    depth = sum(name.endswith(".0.to_q.weight") for name in adapter.shapes)
    query_widths = (adapter.shapes[f"image_proj.layers.{layer}.0.to_q.weight"][0] for layer in range(depth))
    head_widths = [query_width // HEAD_DIM * HEAD_DIM for query_width in query_widths]
    return adapter_shapes(unet, resampler_shapes(tokens, dim, width, inner=inner, head_widths=head_widths))


def _shape(path: Path, shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    shape = shapes.get(name, ())
    if len(shape) != axes or 0 in shape:
        raise CheckpointError(f"{path.name} key {name} is {list(shape)}", f"{axes} axes", "copy the adapter again")
    return shape


def _encoder_name(kind: str, width: int) -> str:
    name = _ENCODERS.get((kind, width))
    return f", as of {name}" if name else ""
