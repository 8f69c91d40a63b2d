"""The tokenizer of a bundle: one `tokenizer.json`, and the ids that frame and fill a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alterbute.bundle import Text

from alterbute_export.checkpoint import Checkpoint
from alterbute_export.errors import CheckpointError
from alterbute_export.parts import quiet_loading

TOKENIZER_FILE: Final = "tokenizer/tokenizer.json"


def write_tokenizer(checkpoint: Checkpoint, folder: Path, *, tokens: int, dim: int, vocabulary: int) -> Text:
    """Write `tokenizer/tokenizer.json` from the checkpoint's CLIP tokenizer, whichever form it is kept in.

    Args:
        checkpoint: Its `tokenizer/` holds `tokenizer.json`, or `vocab.json` and `merges.txt` as published.
        folder: The bundle's folder.
        tokens: The text encoder's longest prompt.
        dim: The text encoder's width.
        vocabulary: How many ids the text encoder knows.

    Raises:
        CheckpointError: the tokenizer is missing, or has ids that the text encoder does not know.
    """
    from transformers import CLIPTokenizer

    source = checkpoint.path / "tokenizer"
    complete = (source / "tokenizer.json").is_file() or all(
        (source / n).is_file() for n in ("vocab.json", "merges.txt")
    )
    if not complete:
        raise CheckpointError(
            "the checkpoint has no tokenizer/tokenizer.json",
            "it, or tokenizer/vocab.json and tokenizer/merges.txt",
            "save the tokenizer with save_pretrained",
        )
    try:
        with quiet_loading():
            tokenizer = CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except Exception as fault:
        # The tokenizers library raises bare Exception.
        raise CheckpointError(f"tokenizer/ cannot be loaded ({fault})", "a CLIP tokenizer", "save it again") from None
    if len(tokenizer) > vocabulary:
        raise CheckpointError(
            f"the tokenizer has {len(tokenizer)} entries",
            f"at most {vocabulary}, the vocab_size of text_encoder/config.json",
            "use the tokenizer that the text encoder was trained with",
        )
    backend = tokenizer.backend_tokenizer
    # Cutting and filling is the runtime's work: it refuses long prompts, which a tokenizer would cut in silence.
    backend.no_truncation()
    backend.no_padding()
    path = folder / TOKENIZER_FILE
    path.parent.mkdir()
    path.write_text(backend.to_str(pretty=False) + "\n", encoding="utf-8", newline="\n")
    return Text(
        tokens=tokens,
        dim=dim,
        pooled=0,
        tokenizer=TOKENIZER_FILE,
        start_id=int(tokenizer.bos_token_id),
        end_id=int(tokenizer.eos_token_id),
        pad_id=int(tokenizer.pad_token_id),
    )
