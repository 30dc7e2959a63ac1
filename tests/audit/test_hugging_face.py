"""`--model hf:FOLDER` on models with random weights, saved as a user's own would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrimp.audit.folder import load
from scrimp.audit.ready import model_named, text_model, text_numbers
from scrimp.audit.starters import at_home, starter
from scrimp.config import Workspace
from scrimp.errors import ScrimpError

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "ham", "spam", "a", "letter", "prize"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A small BERT with a tokenizer of seven words, in a folder."""
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(dict(zip(WORDS, range(7), strict=True)), unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path / "bert"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=7, **sizes)).save_pretrained(folder)
    return folder


def test_a_text_model_of_hugging_face_takes_no_notice_of_padding(texts: Path) -> None:
    numbers = text_numbers(f"hf:{texts}", ["a letter", "prize prize today"], 5)
    assert numbers.tolist() == [[4, 5, 0, 0, 0], [6, 6, 1, 0, 0]]
    model = text_model(f"hf:{texts}", 3).eval()
    assert model(numbers).shape == (2, 3)
    assert torch.allclose(model(numbers), model(numbers[:, :3]), atol=1e-6)


def test_try_writes_a_table_of_texts_for_it(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{'spam,a prize' if number % 2 else 'ham,a letter'} {number}" for number in range(40)]
    (tmp_path / "mails.csv").write_text("\n".join(["label,text", *lines]))
    monkeypatch.chdir(tmp_path)
    file = starter(None, Path("mails.csv"), "hf:bert", 8, "text", "label", 3, None)
    assert f"MODEL = {str(tmp_path / 'mails.csv')!r}, 64, {f'hf:{texts}'!r}" in file.read_text()
    task = load(file, Workspace(tmp_path / "audit"), "cpu", 1).task
    assert task.workload.recipe.learning_rate == 5e-5
    batch = task.batch("train", torch.arange(4))
    assert task.losses(task.model(0), batch).shape == (4,)


def test_a_picture_model_of_hugging_face_gives_logits(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=16, patch_size=8, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    assert model_named(f"hf:{tmp_path / 'vit'}", 5)(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_a_model_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScrimpError, match="--model hf:"):
        model_named(f"hf:{tmp_path / 'empty'}", 2)


def test_files_and_folders_are_named_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert at_home("hf:mine") == f"hf:{tmp_path / 'mine'}"
    assert at_home("hf:org/name") == "hf:org/name"
    assert at_home("net.py:make") == f"{tmp_path / 'net.py'}:make"
    assert at_home("resnet18") == "resnet18"
