"""The tokenizer of a checkpoint and bundle: one `tokenizer.json`, and the start, end and padding ids of a prompt."""

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
    """A CLIP tokenizer.

    Args:
        name: Its folder in the checkpoint, `tokenizer` or `tokenizer_2`.
        backend: The tokenizer of the `tokenizers` library.
        vocabulary: Id of each entry.
        start_id: First id of every prompt.
        end_id: Id after the last token of a prompt.
        pad_id: Id that fills a prompt up to the text encoder's length.
    """

    name: str
    backend: Any
    vocabulary: dict[str, int]
    start_id: int
    end_id: int
    pad_id: int

    @property
    def entries(self) -> int:
        """Number of entries in the vocabulary."""
        return len(self.vocabulary)


def read_tokenizer(folder: Path, name: str = "tokenizer") -> Tokenizer:
    """Load the checkpoint's CLIP tokenizer from `tokenizer.json`, or from `vocab.json` and `merges.txt`.

    Args:
        folder: The checkpoint's folder.
        name: Folder of the tokenizer, `tokenizer` or `tokenizer_2`.

    Raises:
        CheckpointError: the tokenizer is missing or cannot be loaded.
    """
    from transformers import CLIPTokenizer

    source = folder / name
    is_complete = (source / "tokenizer.json").is_file() or all(
        (source / n).is_file() for n in ("vocab.json", "merges.txt")
    )
    if not is_complete:
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
    """Check that every id of a tokenizer is in the text encoder's embedding table.

    Args:
        tokenizer: The tokenizer.
        vocabulary: Entries of the text encoder's embedding table.
        part: The text encoder's part, `text_encoder` or `text_encoder_2`.

    Raises:
        CheckpointError: the tokenizer has more entries than the text encoder.
    """
    if tokenizer.entries > vocabulary:
        raise CheckpointError(
            f"the {tokenizer.name} has {tokenizer.entries} entries",
            f"at most {vocabulary}, the vocab_size of {part}/config.json",
            "use the tokenizer that the text encoder was trained with",
        )


def write_tokenizer(tokenizer: Tokenizer, folder: Path, sizes: TextSizes) -> Text:
    """Write `tokenizer/tokenizer.json` into a bundle's folder; return the manifest's `text` entry.

    Args:
        tokenizer: The tokenizer; its truncation and padding are switched off in place.
        folder: The bundle's folder, which has no `tokenizer` folder yet.
        sizes: Sizes of the text conditioning.
    """
    backend = tokenizer.backend
    # The runtime truncates and pads: it refuses long prompts, which the tokenizer would truncate silently.
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
