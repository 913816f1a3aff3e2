"""A small CLIP tokenizer made from captions: byte-level byte-pair encoding, lower-cased, as OpenAI's, but
1,500 tokens.

Sennrich et al. 2016 (merges by frequency), in CLIP's file layout (vocab.json, merges.txt).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab.errors import UserError
from fdlab.files import write_json, write_text
from fdlab.weights import formats

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"


def learn(words: Counter[str], alphabet: list[str], num_merges: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from word counts: the most frequent pair first, ties by the pair's spelling.

    Words are strings over `alphabet`; the last letter of a word carries `</w>`. Pairs seen once are not
    merged.
    """
    pieces = {word: [*word[:-1], word[-1] + END_OF_WORD] for word in words}
    merges: list[tuple[str, str]] = []
    unknown = {letter for word in words for letter in word} - set(alphabet)
    if unknown:
        raise ValueError(f"letters outside the alphabet: {sorted(unknown)}")
    while len(merges) < num_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, split in pieces.items():
            for pair in pairwise(split):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        merges.append(best)
        pieces = {word: _merge(split, best) for word, split in pieces.items()}
    return merges


def _merge(split: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in split:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def train_tokenizer(
    captions: Iterable[str], folder: Path | str, vocab_size: int = 1500, max_tokens: int = 64
) -> None:
    """Write a tokenizer made from captions to `folder`; the same captions give the same bytes, in any order.

    `vocab_size` is an upper limit: merging ends when no pair occurs twice. Raises: UserError when it is under
    514 (every byte, alone and at the end of a word, and the two ends of text).
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    base = [*letters, *(letter + END_OF_WORD for letter in letters)]
    room = vocab_size - len(base) - 2
    if room < 0:
        raise UserError(
            f"vocab_size={vocab_size}: at least {len(base) + 2} is needed (every byte, and the ends of text)."
        )
    backend = CLIPTokenizer().backend_tokenizer
    words: Counter[str] = Counter()
    for caption in captions:
        text = backend.normalizer.normalize_str(caption)
        words.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    merges = learn(words, letters, room)
    tokens = list(dict.fromkeys([*base, *(left + right for left, right in merges), BOS, EOS]))
    folder = Path(folder)
    write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    write_text(
        folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n"
    )
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "unk_token": EOS}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": max_tokens,
            "do_lower_case": True,
            **special,
        },
    )
    write_json(folder / "special_tokens_map.json", special)


def load_tokenizer(folder: Path | str) -> CLIPTokenizer:
    """Load a CLIP tokenizer from its folder. Raises: UserError when its files are missing or unreadable."""
    from transformers import CLIPTokenizer

    folder = Path(folder)
    whole = (folder / "tokenizer.json").is_file()
    for name in ("tokenizer.json",) if whole else ("vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise UserError(f"the tokenizer in '{folder}' lacks '{name}'; copy the whole folder.")
    formats.read(folder / "tokenizer_config.json", formats.TOKENIZER)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        # Names of such templates become names of files when it is saved, and captions need none.
        tokenizer.chat_template = None
        ids_BL = token_ids(tokenizer, ["", "a woman"])
    except Exception as error:
        # The reader is somebody else's and in another language: any error may come of a broken file.
        raise UserError(f"the tokenizer in '{folder}' cannot be read: {formats.one_line(error)}.") from error
    known = sorted(tokenizer.get_vocab().values())
    if known != list(range(len(known))) or not 0 <= int(ids_BL.min()) <= int(ids_BL.max()) < len(known):
        raise UserError(f"the tokenizer in '{folder}' does not number its {len(known)} tokens 0, 1, 2, ...")
    return tokenizer


def token_ids(tokenizer: Any, texts: list[str], max_tokens: int | None = None) -> Any:
    """Tokenize, pad and truncate (the end token stays): input_ids_BL, long."""
    length = max_tokens or tokenizer.model_max_length
    coded = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return coded.input_ids
