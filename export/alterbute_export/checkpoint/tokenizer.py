"""The tokenizer of a bundle: one `tokenizer.json`, and the ids that frame and fill a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alterbute.bundle import Text

from alterbute_export.checkpoint.model_classes import quiet_loading
from alterbute_export.checkpoint.text_sizes import TextSizes
from alterbute_export.errors import CheckpointError

TOKENIZER_FILE: Final = "tokenizer/tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokenizer:
    """A CLIP tokenizer; `entries` counts its ids, `vocabulary` maps each entry to its id."""

    name: str
    backend: Any
    vocabulary: dict[str, int]
    start_id: int
    end_id: int
    pad_id: int

    @property
    def entries(self) -> int:
        """How many ids it gives."""
        return len(self.vocabulary)


def read_tokenizer(folder: Path, name: str = "tokenizer") -> Tokenizer:
    """The checkpoint's CLIP tokenizer, whichever form it is kept in.

    Args:
        folder: The checkpoint's.
        name: `tokenizer` or `tokenizer_2`; holds `tokenizer.json`, or `vocab.json` and `merges.txt` as published.

    Raises:
        CheckpointError: the tokenizer is missing or cannot be loaded.
    """
    from transformers import CLIPTokenizer

    source = folder / name
    complete = (source / "tokenizer.json").is_file() or all(
        (source / n).is_file() for n in ("vocab.json", "merges.txt")
    )
    if not complete:
        raise CheckpointError(
            f"the checkpoint has no {name}/tokenizer.json",
            f"it, or {name}/vocab.json and {name}/merges.txt",
            "save the tokenizer with save_pretrained",
        )
    try:
        with quiet_loading():
            tokenizer = CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except Exception as fault:
        # The tokenizers library raises bare Exception.
        raise CheckpointError(f"{name}/ cannot be loaded ({fault})", "a CLIP tokenizer", "save it again") from None
    return Tokenizer(
        name=name,
        backend=tokenizer.backend_tokenizer,
        vocabulary=dict(tokenizer.get_vocab()),
        start_id=int(tokenizer.bos_token_id),
        end_id=int(tokenizer.eos_token_id),
        pad_id=int(tokenizer.pad_token_id),
    )


def check_tokenizer(tokenizer: Tokenizer, vocabulary: int, part: str) -> None:
    """Hold a tokenizer against the text encoder that it feeds.

    Raises:
        CheckpointError: the tokenizer gives ids that the encoder does not know.
    """
    if tokenizer.entries > vocabulary:
        raise CheckpointError(
            f"the {tokenizer.name} has {tokenizer.entries} entries",
            f"at most {vocabulary}, the vocab_size of {part}/config.json",
            "use the tokenizer that the text encoder was trained with",
        )


def write_tokenizer(tokenizer: Tokenizer, folder: Path, sizes: TextSizes) -> Text:
    """Write `tokenizer/tokenizer.json` into a bundle's folder, and return what the manifest says of the text."""
    backend = tokenizer.backend
    # Cutting and filling is the runtime's work: it refuses long prompts, which a tokenizer would cut in silence.
    backend.no_truncation()
    backend.no_padding()
    path = folder / TOKENIZER_FILE
    path.parent.mkdir()
    path.write_text(backend.to_str(pretty=False) + "\n", encoding="utf-8", newline="\n")
    return Text(
        tokens=sizes.tokens,
        dim=sizes.dim,
        pooled=sizes.pooled,
        tokenizer=TOKENIZER_FILE,
        start_id=tokenizer.start_id,
        end_id=tokenizer.end_id,
        pad_id=tokenizer.pad_id,
    )
