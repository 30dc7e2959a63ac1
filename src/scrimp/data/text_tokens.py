"""Tokenizers of running text: bytes, a byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), or BERT's WordPiece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from scrimp.errors import ScrimpError

Ids = npt.NDArray[np.uint16]
BYTES = 256
END_OF_TEXT = "<|end of text|>"
UNKNOWN, SEPARATOR = "[UNK]", "[SEP]"
ALPHABET = 256  # letters that WordPiece keeps; rarer ones are unknown
FILE = "tokenizer.json"
SPLITS = ("train", "validation", "test")


class TextTokenizer(Protocol):
    """Text to ids below `vocabulary` and back; `end_of_text` is the id that no text gives."""

    kind: str
    vocabulary: int
    end_of_text: int

    def encode(self, texts: Sequence[str]) -> list[Ids]: ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text; ids of end-of-text stand for nothing, and pieces of a letter for U+FFFD."""
        ...


class ByteTokenizer:
    """The 256 bytes of UTF-8 are the ids 0 to 255, end-of-text is 256."""

    kind = "bytes"
    vocabulary = BYTES + 1
    end_of_text = BYTES

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.uint16) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(id_ for id_ in ids if id_ < BYTES).decode("utf-8", "replace")


class LearnedTokenizer:
    """A tokenizer that was learned from text, kept as `tokenizer.json`."""

    kind: str
    end_of_text: int

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # not kept in tokenizer.json
        self.vocabulary = int(tokenizer.get_vocab_size())

    @classmethod
    def read(cls, folder: Path) -> Self:
        path = folder / FILE
        try:
            return cls(Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except Exception as error:  # the library raises no other kind
            raise ScrimpError(
                f"{path} is missing or damaged ({error}); delete {folder} and run `scrimp shard {folder.name}` again"
            ) from error

    def save(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / FILE))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(found.ids, dtype=np.uint16) for found in self.tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        return str(self.tokenizer.decode([int(id_) for id_ in ids], skip_special_tokens=True))


class BpeTokenizer(LearnedTokenizer):
    """A byte-level BPE; end-of-text is 0, and a text that spells its name is still encoded letter by letter."""

    kind = "bpe"
    end_of_text = 0

    @classmethod
    def trained(cls, texts: Iterable[str], vocabulary: int) -> Self:
        """A tokenizer of at most `vocabulary` ids, from the texts alone: the same texts in any order, the same one."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)


class WordPieceTokenizer(LearnedTokenizer):
    """BERT's: lower case without accents, words and signs apart, pieces of words; unknown is 0, end-of-text 1."""

    kind = "wordpiece"
    end_of_text = 1

    @classmethod
    def trained(cls, texts: Iterable[str], vocabulary: int) -> Self:
        """A tokenizer of at most `vocabulary` ids, from the texts alone: the same texts in any order, the same one."""
        counts = Counter[str]()
        normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        for text in texts:
            counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
        letters = Counter[str]()
        for word, count in counts.items():
            for letter in word:
                letters[letter] += count
        alphabet = sorted(letters, key=lambda letter: (-letters[letter], letter))[:ALPHABET]
        inside = sorted({letter for word in counts for letter in word[1:]} & set(alphabet))
        # The library numbers letters inside of words as it meets them, in an order of chance, and ties between pieces go by
        # number. As special tokens they have theirs beforehand; the tokenizer that is kept knows them as plain pieces.
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=[UNKNOWN, SEPARATOR, *(f"##{letter}" for letter in inside)],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        learner.train_from_iterator((" ".join([word] * count) for word, count in sorted(counts.items())), trainer)
        tokenizer = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token=UNKNOWN))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.add_special_tokens([UNKNOWN, SEPARATOR])
        return cls(tokenizer)


LEARNED: dict[str, type[BpeTokenizer] | type[WordPieceTokenizer]] = {"bpe": BpeTokenizer, "wordpiece": WordPieceTokenizer}
