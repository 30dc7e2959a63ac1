"""The Hugging Face Trainer with a SelectedData: in one process by hand, and in two, killed inside an epoch and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from integration_worlds import BATCH, EPOCHS, LENGTHS, STOP, Watched, check_resumed, check_whole, linear, together
from torch import nn

from scrimp import InfoBatch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(x)}


DEFAULTS: dict[str, Any] = {
    "num_train_epochs": EPOCHS,
    "per_device_train_batch_size": BATCH,
    "save_strategy": "no",
    "logging_strategy": "no",
}


def arguments(folder: Path, **options: Any) -> Any:
    return transformers.TrainingArguments(
        str(folder / "out"),
        learning_rate=0.1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{**DEFAULTS, **options},
    )


def train(folder: Path, rank: int, killed: bool = False, checkpoint: str | None = None) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    class Kill(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == STOP:
                control.should_save = control.should_training_stop = True

    data = Watched(keys=True)
    trainer = SelectedTrainer(Net(), arguments(folder), train_dataset=data, callbacks=[Kill()] if killed else [])
    trainer.train(resume_from_checkpoint=checkpoint)
    weights = [value.tolist() for value in trainer.model.parameters()]
    rate = trainer.lr_scheduler.get_last_lr()
    data.record(folder / f"{rank}.json", weights=weights, rate=rate, epoch=trainer.state.epoch)


def test_two_processes_and_resuming_inside_an_epoch(tmp_path: Path) -> None:
    for name in ("whole", "killed", "resumed"):
        (tmp_path / name).mkdir()
    whole = together(train, tmp_path / "whole")
    check_whole(whole)
    assert set(whole[0]["rate"]) == {0.0}  # linear decay ends with the last epoch, though it was pruned on the way
    assert whole[0]["epoch"] == EPOCHS
    first = together(train, tmp_path / "killed", True)
    checkpoint = str(tmp_path / "killed" / "out" / f"checkpoint-{STOP}")
    rest = together(train, tmp_path / "resumed", False, checkpoint)
    check_resumed(whole, first, rest)


def rates_and_losses(trainer: Any) -> list[tuple[float, float]]:
    return [(entry["learning_rate"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def each_step(folder: Path, **options: Any) -> Any:
    return arguments(folder, logging_strategy="steps", logging_steps=1, **options)


def test_a_second_training_on_the_same_data_is_as_the_first(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    data, logs = Watched(keys=True), []
    for _ in range(2):
        trainer = SelectedTrainer(Net(), each_step(tmp_path), train_dataset=data)
        trainer.train()
        logs.append(rates_and_losses(trainer))
        data.seen, seen = [], data.seen
        assert [sum(len(at) for number, at in seen if number == epoch) for epoch in range(EPOCHS)] == LENGTHS
    assert logs[0] == logs[1]
    # One trainer that trains twice goes on with its weights, as the library's does, but not with its schedule.
    trainer.train()
    assert [rate for rate, _ in rates_and_losses(trainer)] == [rate for rate, _ in logs[0]]
    assert [len(data.plans[epoch]) for epoch in range(EPOCHS)] == LENGTHS


def test_a_smaller_batch_after_memory_ran_out_starts_the_data_anew(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    class Full(SelectedTrainer):
        def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*args, **options)
            if self._train_batch_size == BATCH and self.state.global_step == STOP:
                raise RuntimeError("CUDA out of memory.")
            return loss

    data, whole = Watched(keys=True), Watched(keys=True)
    trainer = Full(Net(), each_step(tmp_path, auto_find_batch_size=True), train_dataset=data)
    trainer.train()
    steps = sum(-(-length // 2) for length in LENGTHS)  # 3 * 0.9 is a batch of 2
    assert trainer.state.global_step == steps
    assert rates_and_losses(trainer)[-2][0] > 0
    assert set(trainer.lr_scheduler.get_last_lr()) == {0.0}
    SelectedTrainer(Net(), arguments(tmp_path, per_device_train_batch_size=2), train_dataset=whole).train()
    assert data.seen[-steps:][: LENGTHS[0] // 2] == whole.seen[: LENGTHS[0] // 2]


def test_a_checkpoint_is_gone_on_with_after_another_training(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    data = Watched(keys=True)
    options = {"save_strategy": "steps", "save_steps": 16}  # after 12 of epoch 0 and four of epoch 1
    trainer = SelectedTrainer(Net(), arguments(tmp_path, **options), train_dataset=data)
    trainer.train()
    whole, data.seen = data.seen, []
    SelectedTrainer(Net(), arguments(tmp_path), train_dataset=data).train()
    assert data.seen[0] == whole[0]
    data.seen = []
    trainer = SelectedTrainer(Net(), arguments(tmp_path), train_dataset=data)
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-16"))
    assert data.seen == whole[16:]


def test_an_evaluation_of_the_training_set_is_of_what_it_wraps(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    class WithLoss(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
            logits = super().forward(x)["logits"]
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    data = Watched(keys=True)
    options: dict[str, Any] = {"train_dataset": data, "eval_dataset": {"train": data, "plain": data.dataset}}
    trainer = SelectedTrainer(WithLoss(), arguments(tmp_path), **options)
    plain = trainer.evaluate(data.dataset)["eval_loss"]
    assert trainer.evaluate(data)["eval_loss"] == plain
    told = trainer.evaluate()
    assert told["eval_train_loss"] == told["eval_plain_loss"] == plain
    assert trainer.predict(data).predictions.shape == (len(data), 2)
    assert not data.trained


def test_an_order_of_another_kind_is_told_to_have_no_effect(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    wanted = arguments(tmp_path, train_sampling_strategy="group_by_length")
    with pytest.warns(UserWarning, match="train_sampling_strategy='group_by_length' has no effect"):
        SelectedTrainer(Net(), wanted, train_dataset=Watched(keys=True))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ([0, 1, 2, 2], {"num_labels": 1}),
        ([0.5, 1.0, -2.0, 0.0], {"num_labels": 1}),
        ([0, 1, 2, 2], {"num_labels": 3}),
        ([0, 1, 0, 1], {"num_labels": 1, "problem_type": "regression"}),
        ([[0.5, 1.0], [2.0, 0.0], [0.0, 0.0], [1.0, 1.0]], {"num_labels": 2, "problem_type": "regression"}),
        ([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], {"num_labels": 2}),
    ],
)
def test_losses_are_of_the_kind_that_the_library_takes_labels_for(labels: Any, options: Any, tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=11, **sizes, **options)).eval()
    rows = [{"input_ids": torch.arange(4) + at, "labels": torch.tensor(label)} for at, label in enumerate(labels)]
    trainer = SelectedTrainer(model, arguments(tmp_path), train_dataset=InfoBatch(rows, epochs=EPOCHS))  # type: ignore[arg-type]
    inputs = {name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels")}
    losses = trainer.example_losses(model(**inputs), inputs).detach()
    own = [float(model(input_ids=row["input_ids"][None], labels=row["labels"][None]).loss.detach()) for row in rows]
    assert losses.tolist() == pytest.approx(own, rel=1e-5)


def test_one_logit_and_whole_labels_of_a_model_without_a_config_are_an_error(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    trainer = SelectedTrainer(Net(), arguments(tmp_path), train_dataset=Watched(keys=True))
    with pytest.raises(ValueError, match="the model gives one logit: for regression give float labels"):
        trainer.example_losses({"logits": torch.zeros(2, 1)}, {"labels": torch.tensor([0, 2])})


def test_arguments_that_would_end_elsewhere_are_refused(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    for options in ({"num_train_epochs": 5}, {"max_steps": 10}):
        with pytest.raises(ValueError, match="give TrainingArguments num_train_epochs=3 and no max_steps"):
            SelectedTrainer(Net(), arguments(tmp_path, **options), train_dataset=Watched(keys=True))
    with pytest.raises(TypeError, match="train_dataset=InfoBatch"):
        SelectedTrainer(Net(), arguments(tmp_path), train_dataset=Watched(keys=True).dataset)


def test_losses_of_a_language_model_are_means_over_a_sequences_own_tokens(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    rows = [{"input_ids": torch.arange(6), "labels": torch.arange(6)} for _ in range(4)]
    rows[1]["labels"] = torch.tensor([0, 1, 2, -100, -100, -100])
    trainer = SelectedTrainer(model, arguments(tmp_path), train_dataset=InfoBatch(rows, epochs=EPOCHS))  # type: ignore[arg-type]
    (batch, *_) = trainer.get_train_dataloader()
    inputs = {name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels")}
    losses = trainer.example_losses(model(**inputs), inputs).detach()
    # The library's own loss of a sequence alone is the mean over its tokens.
    own = [float(model(input_ids=row["input_ids"][None], labels=row["labels"][None]).loss.detach()) for row in rows]
    assert losses.tolist() == pytest.approx(own, rel=1e-5)
    assert sorted(batch) == ["example_index", "input_ids", "labels"]
    loss = trainer.compute_loss(model, dict(batch))
    assert float(loss) == pytest.approx(sum(own[at] for at in batch["example_index"].tolist()) / 3, rel=1e-5)


def causal_rows() -> list[dict[str, torch.Tensor]]:
    rows = [{"input_ids": torch.arange(6) + at % 5, "labels": torch.arange(6) + at % 5} for at in range(6)]
    rows[1]["labels"] = torch.tensor([1, 2, 3, -100, -100, -100])
    return rows


def causal(kind: Any) -> Any:
    torch.manual_seed(0)
    model = kind(transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    torch.nn.init.normal_(model.transformer.wte.weight)  # so that tokens differ in their losses
    return model.eval()


class Adapted(nn.Module):
    """A wrapper as PEFT's: it hands everything on, and names its model by `get_base_model`."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base_model, self.config = base, base.config

    def get_base_model(self) -> Any:
        return self.base_model

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return self.base_model(input_ids=input_ids, labels=labels)


@pytest.mark.parametrize("wrapped", [False, True])
def test_labels_are_shifted_for_subclasses_and_wrappers_of_causal_models(wrapped: bool, tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    class Mine(transformers.GPT2LMHeadModel):  # type: ignore[misc]
        pass

    model = Adapted(causal(transformers.GPT2LMHeadModel)) if wrapped else causal(Mine)
    rows = causal_rows()
    trainer = SelectedTrainer(model, arguments(tmp_path), train_dataset=InfoBatch(rows, epochs=EPOCHS))  # type: ignore[arg-type]
    inputs = {name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels")}
    losses = trainer.example_losses(model(**inputs), inputs).detach()
    own = [float(model(input_ids=row["input_ids"][None], labels=row["labels"][None]).loss.detach()) for row in rows]
    assert losses.tolist() == pytest.approx(own, rel=1e-5)
    (batch, *_) = trainer.get_train_dataloader()
    trainer.compute_loss(model, dict(batch))  # and its mean over all tokens is the model's


def test_losses_that_are_not_the_models_own_are_an_error(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    class Hidden(nn.Module):  # shifts its labels, and nothing tells
        def __init__(self) -> None:
            super().__init__()
            self.inside = causal(transformers.GPT2LMHeadModel)

        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
            return self.inside(input_ids=input_ids, labels=labels)

    model, rows = Hidden(), causal_rows()
    trainer = SelectedTrainer(model, arguments(tmp_path), train_dataset=InfoBatch(rows, epochs=EPOCHS))  # type: ignore[arg-type]
    (batch, *_) = trainer.get_train_dataloader()
    with pytest.raises(ValueError, match=r"but Hidden says .* for the same batch: it shifts its labels"):
        trainer.compute_loss(model, dict(batch))

    class Own(SelectedTrainer):  # whoever says the losses is believed
        def example_losses(self, outputs: Any, inputs: dict[str, Any]) -> torch.Tensor:
            return torch.ones(len(inputs["labels"]))

    trainer = Own(model, arguments(tmp_path), train_dataset=InfoBatch(rows, epochs=EPOCHS))  # type: ignore[arg-type]
    (batch, *_) = trainer.get_train_dataloader()
    assert float(trainer.compute_loss(model, dict(batch))) == 1


def test_arguments_that_ask_for_another_loss_are_refused(tmp_path: Path) -> None:
    from scrimp.integrations.hf import SelectedTrainer

    model = causal(transformers.GPT2LMHeadModel)  # the library itself wants a model with a config here
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1 would change no loss"):
        SelectedTrainer(model, arguments(tmp_path, label_smoothing_factor=0.1), train_dataset=Watched(keys=True))
    with pytest.raises(ValueError, match="compute_loss_func gives one number a batch"):
        SelectedTrainer(
            Net(), arguments(tmp_path), train_dataset=Watched(keys=True), compute_loss_func=lambda *_, **__: torch.zeros(())
        )
