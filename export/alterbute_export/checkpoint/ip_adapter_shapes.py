"""Keys and shapes of the tensors of a published IP-Adapter file, by UNet and projector."""

from __future__ import annotations

from typing import Any

from alterbute_export.modules.ip_adapter_attention import cross_attention_names

Shape = tuple[int, ...]


def adapter_shapes(unet: Any, projector: dict[str, Shape]) -> dict[str, Shape]:
    """Shape of every key of an adapter: its projector, and key and value weights for each cross-attention."""
    dim = int(unet.config.cross_attention_dim)
    shapes = {f"image_proj.{name}": shape for name, shape in projector.items()}
    for index, name in enumerate(cross_attention_names(unet)):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        shapes |= {f"ip_adapter.{2 * index + 1}.to_{part}_ip.weight": (width, dim) for part in "kv"}
    return shapes


def base_shapes(tokens: int, dim: int, width: int) -> dict[str, Shape]:
    """Shapes of the base projector: one Linear from the image embedding to all tokens, then LayerNorm.

    Args:
        tokens: Identity tokens Ti.
        dim: Width D of a token.
        width: Width of the image embedding.
    """
    return {
        "proj.weight": (tokens * dim, width),
        "proj.bias": (tokens * dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }


def resampler_shapes(tokens: int, dim: int, width: int, *, inner: int, head_widths: list[int]) -> dict[str, Shape]:
    """Shapes of the plus projector: learned queries, and attention and feed-forward weights of each layer.

    Args:
        tokens: Identity tokens Ti, which is the number of queries.
        dim: Width D of a token.
        width: Width of the image encoder's patch states.
        inner: Width of a query.
        head_widths: Width of all attention heads together, for each layer.
    """
    shapes: dict[str, Shape] = {
        "latents": (1, tokens, inner),
        "proj_in.weight": (inner, width),
        "proj_in.bias": (inner,),
        "proj_out.weight": (dim, inner),
        "proj_out.bias": (dim,),
        "norm_out.weight": (dim,),
        "norm_out.bias": (dim,),
    }
    for layer, head_width in enumerate(head_widths):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        shapes |= {f"{attention}.norm{n}.{part}": (inner,) for n in (1, 2) for part in ("weight", "bias")}
        shapes |= {
            f"{attention}.to_q.weight": (head_width, inner),
            f"{attention}.to_kv.weight": (2 * head_width, inner),
        }
        shapes |= {f"{attention}.to_out.weight": (inner, head_width)}
        shapes |= {f"{forward}.0.weight": (inner,), f"{forward}.0.bias": (inner,)}
        shapes |= {f"{forward}.1.weight": (4 * inner, inner), f"{forward}.3.weight": (inner, 4 * inner)}
    return shapes
