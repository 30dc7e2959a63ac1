"""Documents become tokens: split by document, put into a seeded order, encoded, and packed into runs of 2^20 tokens.

All that decides where a document goes is a digest of its own: of its name for the split and for whether it is used, of
its text for the order and for finding duplicates. So adding documents moves none from one split to another, and any
prefix of a split is a mix of its sources. Documents lie in buckets on disk meanwhile, of which one at a time is held in
memory, whatever the size of the whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from rich.console import Console
from rich.progress import track

from scrimp.config import Closed
from scrimp.data.shards import ShardWriter, read_manifest, read_samples
from scrimp.data.sources import say
from scrimp.data.text_documents import Document
from scrimp.data.text_filters import Cut, Sentences, Sort, arranged, compressible, without_repeats
from scrimp.data.text_tokens import BYTES, FILE, LEARNED, SPLITS, ByteTokenizer, Ids, TextTokenizer
from scrimp.errors import ScrimpError
from scrimp.files import sha256_of

SCHEMA = ["index", "split", "shard", "offset", "size", "first_token", "tokens", "sha256"]
DOCUMENTS = pa.schema(
    [(name, pa.string()) for name in ("document", "source", "title", "split")]
    + [(name, pa.int64()) for name in ("first_token", "tokens", "bytes")]
)
RUN = 2**20  # tokens of a sample; a split's last one is shorter
RUNS_PER_SHARD = 128  # 256 MiB
MOST_BUCKETS = 256
TEXT_AT_A_TIME = 2**22  # letters encoded in one batch: an encoding takes many times its text


class Options(Closed):
    """How documents become tokens. The held-out shares are of documents, and so of tokens only on average."""

    tokenizer: Literal["bytes", "bpe", "wordpiece"] = "bytes"
    vocabulary: int | None = Field(None, gt=64, le=2**16, description="of a learned one: its tokens, end-of-text included")
    tokenizer_megabytes: PositiveInt = Field(256, description="of a learned one: how much of the training split it sees")
    validation: float = Field(0.05, gt=0, lt=0.5)
    test: float = Field(0.05, gt=0, lt=0.5)
    share: float = Field(1.0, gt=0, le=1, description="the part of the documents that is used, whichever they are")
    seed: int = Field(0, ge=0, description="of the documents' order")
    # Of the training split alone, so that the held-out text stays the same (`text_filters.py`).
    compressibility: PositiveFloat | None = Field(None, description="drop documents of as many tokens a letter, or more")
    deduplicate: bool = Field(False, description="cut sentences that came before")
    window: PositiveInt = Field(128, description="tokens of what is sorted and cut: the context of models trained on it")
    sort: Sort | None = Field(
        None, description="windows by full stops or by the prevalence of their tokens; null: as they are"
    )
    keep: float = Field(1.0, gt=0, le=1, description="share of the windows that is kept")
    cut: Cut = Field("sorted", description="which: the first of the sorted ones, or random ones")

    @model_validator(mode="after")
    def _vocabulary_is_learned(self) -> Options:
        if (self.vocabulary is None) != (self.tokenizer == "bytes"):
            raise ValueError("give a `vocabulary` with the tokenizers `bpe` and `wordpiece`, and none with `bytes`")
        if self.tokenizer == "bpe" and self.vocabulary is not None and self.vocabulary <= BYTES:
            raise ValueError(f"vocabulary: a `bpe` has the {BYTES} bytes and more: give more than that")
        return self

    @property
    def arranges(self) -> bool:
        """Whether windows are sorted or cut."""
        return self.sort is not None or self.keep < 1


def build_view(folder: Path, name: str, bases: dict[str, Path], options: Options) -> dict[str, Any]:
    """Pack the documents of one or several `text_documents` tables; returns facts for the manifest.

    A base of labelled texts is kept out: no document that one of its examples is from is packed, and its sentences are
    cut from all others, before the tokenizer and behind it.
    """
    manifests = {base: read_manifest(path) for base, path in bases.items()}
    about = {
        base: {key: manifest[key] for key in ("samples_sha256", "documents", "unreadable") if key in manifest}
        for base, manifest in manifests.items()
    }
    labelled = {base: path for base, path in bases.items() if "label" in manifests[base]["schema"]}
    counts: dict[str, int] = {}
    documents = _rows({base: path for base, path in bases.items() if base not in labelled})
    texts: list[str] = []
    if labelled:
        tables = [read_samples(path) for path in labelled.values()]
        texts = [text for table in tables for column in ("text", "other") for text in table[column]]
        used = (document for document in documents if place_of(document.document, b"share") < options.share)
        names = {document for table in tables for document in table["document"]}
        documents = _kept_apart(used, names, Sentences(texts), counts)
    packed = pack(folder, name, documents, options, 1, texts)
    if labelled:
        packed["kept_out"] = {"datasets": sorted(labelled), **counts, **packed["kept_out"]}
    return {"bases": about, **packed}


def _rows(bases: dict[str, Path]) -> Iterator[Document]:
    for base, path in bases.items():
        table = read_samples(path)
        if not set(Document._fields) <= set(table.columns):
            raise ScrimpError(f"config/datasets.yaml: {base} has no documents; a text view is made from `text_documents`")
        for row in table[list(Document._fields)].itertuples(index=False):
            yield Document(*row)


def _kept_apart(
    documents: Iterable[Document], names: set[str], sentences: Sentences, counts: dict[str, int]
) -> Iterator[Document]:
    """Documents without those called so, and without sentences; `counts` gains what was left out."""
    counts |= {"documents": 0, "sentences": 0}
    for document in documents:
        if document.document in names:
            counts["documents"] += 1
            continue
        text, cut = sentences.cut_from(document.text)
        counts["sentences"] += cut
        if text:
            yield document._replace(text=text)


def pack(
    folder: Path, name: str, documents: Iterable[Document], options: Options, buckets: int, apart: Sequence[str] = ()
) -> dict[str, Any]:
    """Write tokens of cleaned documents as shards, `samples.parquet` and `documents.parquet` into `folder`.

    `buckets` (1 to 256) bounds the memory taken: about the whole text over `buckets`. It changes nothing of what is
    written. No sentence of the texts `apart` is left in what the tokens decode to. Returns facts for the manifest. Raises
    ScrimpError where a split remains empty, or where the text makes no vocabulary of the size asked for.
    """
    ordered = folder / "ordered"
    ordered.mkdir()
    counts, dropped = _order(ordered, documents, options, min(buckets, MOST_BUCKETS))
    if empty := [split for split in SPLITS if not counts[split]]:
        raise ScrimpError(f"{name}: no document falls into {empty[0]}: raise `share`, or `{empty[0]}`, of its options")
    facts: dict[str, Any] = {"duplicates_dropped": dropped}
    tokenizer: TextTokenizer = ByteTokenizer()
    if options.vocabulary is not None:
        say(f"{name}: making a {options.tokenizer} of {options.vocabulary:,} tokens")
        learned_from = _first(_read(ordered / "train"), options.tokenizer_megabytes * 10**6)
        learned = LEARNED[options.tokenizer].trained(learned_from, options.vocabulary)
        if learned.vocabulary < options.vocabulary:
            raise ScrimpError(
                f"{name}: its options ask for a vocabulary of {options.vocabulary:,}, but the text makes "
                f"{learned.vocabulary:,} tokens and no more: lower `vocabulary`, or take more text"
            )
        learned.save(folder)
        tokenizer, facts["tokenizer_sha256"] = learned, sha256_of(folder / FILE)
    packed = _Packed(folder, tokenizer, options, decoded_sentences(apart, tokenizer) if apart else None)
    with pq.ParquetWriter(folder / "documents.parquet", DOCUMENTS) as table:
        for split in SPLITS:
            found = track(_read(ordered / split), f"{split} documents", counts[split], console=Console(stderr=True))
            packed.add(split, found, table)
    shutil.rmtree(ordered)
    return {
        **packed.writer.close(),
        "bytes": packed.bytes,
        "bytes_by_source": {split: dict(sorted(packed.sizes[split].items())) for split in SPLITS},
        "tokenizer": tokenizer.kind,
        "vocabulary": tokenizer.vocabulary,
        "end_of_text": tokenizer.end_of_text,
        "documents": {split: counts[split] for split in SPLITS},
        "documents_sha256": sha256_of(folder / "documents.parquet"),
        **facts,
        **({"filtered": packed.filtered} if packed.filtered else {}),
        **({"kept_out": {"decoded_sentences": packed.cut}} if apart else {}),
    }


def decoded_sentences(texts: Sequence[str], tokenizer: TextTokenizer) -> Sentences:
    """The sentences of texts as they are written and as a tokenizer leaves them: without what it does not know."""
    return Sentences([*texts, *(tokenizer.decode(ids.tolist()) for ids in tokenizer.encode(texts))])


class _Packed:
    """Encodes documents split by split, and counts their bytes; the training split may be filtered and arranged.

    Sentences `apart` are cut from what the tokens decode to.
    """

    def __init__(self, folder: Path, tokenizer: TextTokenizer, options: Options, apart: Sentences | None) -> None:
        self.writer, self.tokenizer, self.options, self.apart = PackedWriter(folder), tokenizer, options, apart
        self.cut = 0
        self.sizes = {split: Counter[str]() for split in SPLITS}  # bytes by source
        self.bytes: dict[str, int] = {}
        self.filtered: dict[str, int] = {}

    def add(self, split: str, documents: Iterable[Document], table: Any) -> None:
        """A split's documents, in their order; `table` gains a row for each."""
        options, training = self.options, split == "train"
        arranges = training and options.arranges
        if training and options.deduplicate:
            documents = without_repeats(documents, self.filtered)
        waiting: list[Ids] = []
        for batch in _batches(documents):
            rows = []
            for document, ids in self._encoded(batch):
                if training and options.compressibility and not compressible(ids, document.text, options.compressibility):
                    self.filtered["incompressible"] = self.filtered.get("incompressible", 0) + 1
                    continue
                tokens = np.append(ids, np.uint16(self.tokenizer.end_of_text))
                size = len(document.text.encode())
                first = -1 if arranges else self.writer.add(split, tokens)  # -1: windows lie apart
                waiting += [tokens] if arranges else []
                rows.append((*document[:3], split, first, len(tokens), size))
                self.sizes[split][document.source] += size
            columns = zip(*rows, strict=True) if rows else [()] * len(DOCUMENTS)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, DOCUMENTS.types, strict=True)]
            table.write_table(pa.Table.from_arrays(arrays, schema=DOCUMENTS))
        self.bytes[split] = self.sizes[split].total()
        if arranges:
            self._arrange(split, waiting)

    def _encoded(self, batch: list[Document]) -> Iterator[tuple[Document, Ids]]:
        """Documents with their ids; where a sentence is cut, the text is what the tokens decode to."""
        for given, ids in zip(batch, self.tokenizer.encode([one.text for one in batch]), strict=True):
            document, found = given, ids
            # What is left around a cut sentence may be another one.
            while self.apart is not None and document.text:
                text, cut = self.apart.cut_from(self.tokenizer.decode(found.tolist()))
                if not cut:
                    break
                self.cut += cut
                document, found = document._replace(text=text), self.tokenizer.encode([text])[0]
            if document.text:
                yield document, found

    def _arrange(self, split: str, documents: list[Ids]) -> None:
        """Write a split's windows in their new order, and charge them their share of the bytes."""
        options, tokens = self.options, np.concatenate(documents)
        full_stop = int(self.tokenizer.encode(["."])[0][-1])
        kept = arranged(tokens, options.window, options.sort, options.keep, options.cut, full_stop, options.seed)
        self.writer.add(split, kept)
        self.bytes[split] = round(self.bytes[split] * len(kept) / len(tokens))
        self.filtered["windows_dropped"] = (len(tokens) - len(kept)) // options.window


class PackedWriter:
    """Writes the tokens of one split after the other as samples of RUN tokens, each `INDEX.tokens.u16`, little-endian."""

    def __init__(self, folder: Path) -> None:
        self.writer = ShardWriter(folder, RUNS_PER_SHARD)
        self.tokens: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._split = ""
        self._waiting: list[Ids] = []
        self._count = 0  # tokens that wait

    def add(self, split: str, tokens: Ids) -> int:
        """Append tokens to a split; returns the place of the first of them within it."""
        if split != self._split:
            self._flush()
            self._split = split
        first = self.tokens[split]
        self.tokens[split] += len(tokens)
        while len(tokens):
            room = RUN - self._count
            self._waiting.append(tokens[:room])
            self._count += len(tokens[:room])
            tokens = tokens[room:]
            if self._count == RUN:
                self._flush()
        return first

    def close(self) -> dict[str, Any]:
        """Finish the shards and `samples.parquet`; returns counts and shards for the manifest."""
        self._flush()
        self.writer.close()
        return {"tokens": dict(self.tokens), "shards": self.writer.shards}

    def _flush(self) -> None:
        if not self._count:
            return
        run = np.concatenate(self._waiting).astype("<u2").tobytes()
        fields = {
            "first_token": self._written[self._split],
            "tokens": self._count,
            "sha256": hashlib.sha256(run).hexdigest(),
        }
        self.writer.write(self._split, run, "tokens.u16", fields)
        self._written[self._split] += self._count
        self._waiting, self._count = [], 0


# --------------------------------------------------------------------------------------------------- order and split
def split_of(document: str, validation: float, test: float) -> str:
    """The split of a document, by its name alone."""
    place = place_of(document)
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def place_of(document: str, purpose: bytes = b"") -> float:
    """A number in [0, 1) that depends on the document's name alone, another one for each purpose."""
    return int.from_bytes(hashlib.blake2b(document.encode(), digest_size=8, salt=purpose).digest(), "big") / 2**64


def text_digest(text: str, seed: int) -> bytes:
    """16 bytes, the same for the same text alone: documents are ordered by them, and duplicates have the same."""
    return hashlib.blake2b(text.encode(), digest_size=16, salt=seed.to_bytes(16, "little")).digest()


def _order(folder: Path, documents: Iterable[Document], options: Options, buckets: int) -> tuple[Counter[str], int]:
    """Write a file for each split into `folder`, in order and without duplicates.

    Returns how many documents each split has, and how many duplicates were dropped.

    A bucket holds the documents whose digests begin alike, so buckets sorted one by one are the whole, sorted. Of equal
    texts the one whose name comes first is kept.
    """
    with ExitStack() as stack:
        spools = [stack.enter_context((folder / f"{bucket:03d}").open("w", encoding="utf-8")) for bucket in range(buckets)]
        for document in documents:
            digest = text_digest(document.text, options.seed)
            if place_of(document.document, b"share") < options.share:
                spools[digest[0] * buckets // 256].write(json.dumps([digest.hex(), *document]) + "\n")
    counts, dropped = Counter[str](), 0
    with ExitStack() as stack:
        files = {split: stack.enter_context((folder / split).open("w", encoding="utf-8")) for split in SPLITS}
        for bucket in range(buckets):
            spool = folder / f"{bucket:03d}"
            with spool.open(encoding="utf-8") as lines:
                found = sorted(json.loads(line) for line in lines)
            before = ""
            for digest, *document in found:
                if digest == before:
                    dropped += 1
                    continue
                before = digest
                split = split_of(document[0], options.validation, options.test)
                counts[split] += 1
                files[split].write(json.dumps(document) + "\n")
            spool.unlink()
    return counts, dropped


def _read(path: Path) -> Iterator[Document]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Document(*json.loads(line))


def _first(documents: Iterator[Document], size: int) -> Iterator[str]:
    """Texts of documents until they have `size` letters together."""
    for document in documents:
        yield document.text
        size -= len(document.text)
        if size <= 0:
            return


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= TEXT_AT_A_TIME:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
