"""Sparse training by hand: budgets, what is kept, gradients, rewiring, FLOPs and memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from test_methods_combined import trained as trained_squares
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.errors import ScrimpError
from scrimp.measure.kept_memory import kept_bytes
from scrimp.methods import swat
from scrimp.methods.rigl import RigL, replaced_share, rewired
from scrimp.methods.sparse_layers import kept_counts, proportional, thinned_layers
from scrimp.methods.swat import Swat, magnitudes, pack, threshold_of, unpack, use_swat


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network() -> nn.Sequential:
    """Two convolutions and a linear map; the first stays dense."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
    )


# --------------------------------------------------------------------------------------------------------------- budgets
def test_a_full_layer_gives_the_rest_to_the_others() -> None:
    assert proportional([1, 1, 2], [100, 100, 100], 0.2) == [15, 15, 30]
    # 90 in proportion 8 : 1 : 0: the first takes 50 and is full, the second the other 40.
    assert proportional([8, 1, 0], [50, 50, 80], 0.5) == [50, 40, 1]
    assert proportional([0, 0], [10, 10], 1.0) == [10, 10]
    with pytest.raises(ValueError, match="density must be above 0"):
        proportional([1], [1], 0.0)


def test_erk_by_hand() -> None:
    """Sums of dimensions 20 and 40 share 20 % of 100 + 400: a third and two thirds of 100."""
    small, large = torch.zeros(10, 10), torch.zeros(20, 20)
    assert kept_counts("erk", [small, large], 0.2) == [33, 67]
    assert kept_counts("uniform", [small, large], 0.2) == [20, 80]
    assert kept_counts("momentum", [small, large], 0.2, [1.0, 3.0]) == [25, 75]


def test_the_first_layer_stays_dense() -> None:
    assert list(thinned_layers(network())) == ["2", "5"]
    with pytest.raises(ScrimpError, match="Linear has 1 convolutions and linear maps"):
        thinned_layers(nn.Linear(2, 2))


# ------------------------------------------------------------------------------------------------------------------ kept
def test_what_is_packed_comes_back_zero_elsewhere() -> None:
    x = torch.randn(2, 3, 5, 5, generator=draws()).contiguous(memory_format=torch.channels_last)
    mask = x.abs() > 0.7
    kept, bits = pack(x, mask)
    assert (len(kept), len(bits)) == (int(mask.sum()), 19)  # 150 bits
    torch.testing.assert_close(unpack(kept, bits, torch.empty_like(x)), x * mask)


def test_thresholds_and_channels() -> None:
    x = torch.tensor([3.0, -1.0, 2.0, 0.0])
    assert float(threshold_of(x.abs(), 2)) == 2
    pictures = torch.tensor([[[[1.0, 1.0]], [[-3.0, 0.0]]]])  # [1, 2, 1, 2]
    assert magnitudes(pictures, True).flatten().tolist() == [2, 3]
    assert magnitudes(torch.tensor([[1.0, -2.0], [3.0, 1.0]]), True).tolist() == [[4, 3]]


def test_forward_takes_large_weights_and_backward_large_activations_and_every_weight_has_a_gradient() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[1].weight.copy_(torch.tensor([[3.0, 1.0], [-2.0, 0.5]]))
    use_swat(model, 0.5, 0.5)
    x = torch.tensor([[1.0, 4.0]], requires_grad=True)
    y = model(x)
    assert y.tolist() == [[3.0, -2.0]]  # of the weights 3 and -2 are left
    y.sum().backward()
    # Of the activations 4 is left: a gradient of 4 to both weights that read it, the small ones, and of 0 to the others.
    assert model[1].weight.grad.tolist() == [[0, 4], [0, 4]]
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 0]]  # 3 - 2 through what is left
    assert model.eval()(x).tolist() == [[3.0, -2.0]]


def test_keeping_everything_is_the_dense_model() -> None:
    dense, sparse = network(), network()
    use_swat(sparse, 1.0, 1.0)
    x, labels = torch.randn(3, 1, 4, 4, generator=draws()), torch.tensor([0, 1, 1])
    for model in (dense, sparse):
        F.cross_entropy(model(x), labels).backward()
    for ours, theirs in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert list(sparse.state_dict()) == list(dense.state_dict())


def test_a_second_derivative_is_an_error_but_in_eval_mode() -> None:
    """A gradient penalty through packed activations would be wrong without a word."""
    dense, sparse = (nn.Sequential(*network(), nn.Tanh()) for _ in range(2))
    use_swat(sparse, 1.0, 1.0)
    x = torch.randn(3, 1, 4, 4, generator=draws()).requires_grad_()
    with pytest.raises(RuntimeError, match=r"a sparse layer cannot be differentiated twice.*in eval mode"):
        torch.autograd.grad(sparse(x).sum(), x, create_graph=True)
    for model in (dense, sparse.eval()):
        torch.autograd.grad(model(x).sum(), x, create_graph=True)[0].square().sum().backward()
    assert sparse[2].weight.grad.any()
    torch.testing.assert_close(sparse[2].weight.grad, dense[2].weight.grad)


def test_padding_by_another_rule_is_refused() -> None:
    for options in ({"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}):
        model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3, **options))  # type: ignore[arg-type]
        with pytest.raises(ScrimpError, match="1: SWAT pads a convolution with zeros"):
            use_swat(model, 0.5, 0.5)


def test_thresholds_are_reused() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    state = use_swat(model, 0.5, 1.0, refresh=2)["1"]
    x = torch.ones(1, 2)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[4.0, 3.0], [2.0, 1.0]]))
        model[0].weight.copy_(torch.eye(2))
    model(x)
    with torch.no_grad():
        model[1].weight[1, 0] = 5.0
    assert model(x).tolist() == [[7, 5]]  # three are above the old threshold of 3
    assert model(x).tolist() == [[4, 5]]  # two above a new one
    assert float(state.thresholds[0]) == 4


def test_flops_as_needed_and_as_computed() -> None:
    x = torch.randn(3, 1, 4, 4, generator=draws())
    for count, expected in (("needed", None), ("computed", 1.0)):
        model, method = network(), Swat(0, weights=0.25, activations=0.5, count=count)
        method.adapt(model)
        assert method.flops(0.0, 1.0) == 1.0  # no pass was seen
        model(x)
        # Multiply-adds an example: 36 and 288 weights at 16 places, 256 at one. Thinned: 2 x 1/4 + 1/2 of 3; first: 2.
        first, rest = 36 * 16, 288 * 16 + 256
        share = (2 * first + 1.0 * rest) / (2 * first + 3 * rest)
        assert method.flops(0.0, 1.0) == pytest.approx(expected or share)


def test_kept_memory_by_hand() -> None:
    """Two linear maps of 64 to 64 on 32 examples: 8,192 bytes of input each. Of the second half is kept, with a bit each."""
    torch.manual_seed(0)
    x = torch.randn(32, 64)
    dense = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    assert kept_bytes(dense, lambda: dense(x)) == 2 * 8192
    state = use_swat(dense, 0.25, 0.5)["1"]
    weights = 64 * 64 // 4 * 4 + 64 * 64 // 8
    assert kept_bytes(dense, lambda: dense(x)) == 8192 + (4096 + 256) + weights
    assert state.weight_bytes == weights


def test_momentum_shares_weights_out_by_gradients() -> None:
    model = network()
    method = Swat(0, weights=0.1, activations=1.0, budget="momentum", refresh=1)
    method.adapt(model)
    before = {name: state.count for name, state in method.states.items()}
    assert before == {"2": 29, "5": 26}
    model[5].weight.register_hook(lambda gradient: gradient)  # the linear map's gradient is the only one below
    (model[5](torch.ones(4, 128)).sum() + 0 * model(torch.zeros(1, 1, 4, 4)).sum()).backward()
    method.after_step(model, 0.0)
    counts = {name: state.count for name, state in method.states.items()}
    assert counts == {"2": 1, "5": 54}  # 10 % of 288 + 256, and one is always left


def shared_at(monkeypatch: pytest.MonkeyPatch, refresh: int, passes: int, before: int, steps: int) -> list[int]:
    """After which updates weights are shared out anew, of updates of some passes each, and with some passes before all."""
    model = network()
    method = Swat(0, weights=0.1, activations=1.0, budget="momentum", refresh=refresh)
    method.adapt(model)
    x, found = torch.randn(2, 1, 4, 4, generator=draws()), []
    monkeypatch.setattr(swat, "kept_counts", lambda *of: found.append(step) or kept_counts(*of))  # type: ignore[func-returns-value]
    for step in range(1, steps + 1):
        for _ in range(passes if step > 1 else passes + before):
            model(x).sum().backward()
        method.after_step(model, 0.0)
    return found


def test_weights_are_shared_out_after_every_search_however_many_passes_an_update_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shared_at(monkeypatch, refresh=3, passes=1, before=0, steps=7) == [3, 6]
    assert shared_at(monkeypatch, refresh=2, passes=2, before=1, steps=3) == [1, 2, 3]  # after 3, 5 and 7 passes
    assert shared_at(monkeypatch, refresh=5, passes=3, before=0, steps=5) == [2, 4, 5]  # after 6, 12 and 15


def test_gradients_that_are_not_finite_leave_shares_and_averages_as_they_were() -> None:
    """A gradient scaler finds an overflow, skips the step, and goes on with a smaller scale."""
    counts = []
    for overflow in (True, False):
        model = network()
        method = Swat(0, weights=0.1, activations=1.0, budget="momentum", refresh=1)
        method.adapt(model)
        even = [state.count for state in method.states.values()]
        x = torch.randn(2, 1, 4, 4, generator=draws())
        if overflow:
            (model(x).sum() * torch.inf).backward()
            method.after_step(model, 0.0)
            assert [state.count for state in method.states.values()] == even
        model(x).sum().backward()
        method.after_step(model, 0.0)
        assert all(state.average is not None and state.average.isfinite().all() for state in method.states.values())
        counts.append([state.count for state in method.states.values()])
        assert counts[-1] != even
    assert counts[0] == counts[1]


def test_states_come_back() -> None:
    model, method = network(), Swat(0, weights=0.5, activations=0.5, budget="momentum")
    method.adapt(model)
    model(torch.randn(2, 1, 4, 4, generator=draws())).sum().backward()
    again_model, again = network(), Swat(0, weights=0.5, activations=0.5, budget="momentum")
    again.adapt(again_model)
    again.load_state_dict(method.state_dict())
    for key, value in method.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


# ------------------------------------------------------------------------------------------------------------------ rigl
def test_rewiring_by_hand() -> None:
    weight = torch.tensor([3.0, -1.0, 2.0, 0.0, 0.0])
    gradient = torch.tensor([9.0, 5.0, 9.0, -7.0, 6.0])
    mask = torch.tensor([True, True, True, False, False])
    # -1 goes; among what is not kept the gradients are 5, -7 and 6.
    assert rewired(weight, gradient, mask, 1).tolist() == [True, False, True, True, False]
    assert rewired(weight, gradient, mask, 0).tolist() == mask.tolist()
    with pytest.raises(ValueError, match="cannot replace 4 of 3"):
        rewired(weight, gradient, mask, 4)


def test_the_share_that_is_replaced_falls_on_a_cosine() -> None:
    assert [replaced_share(f, 0.4, 0.5) for f in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([0.4, 0.2, 0.0, 0.0])


def trained(every: int | None, steps: int = 6) -> tuple[nn.Module, RigL, list[dict[str, Tensor]]]:
    model = network()
    method = RigL(0, weights=0.25, budget="uniform", every=every)
    method.adapt(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    masks = []
    for step in range(steps):
        x = torch.randn(8, 1, 4, 4, generator=draws())
        F.cross_entropy(model(x), (x.mean(dim=(1, 2, 3)) > 0).long()).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(model, step / steps)
        masks.append({name: mask.clone() for name, mask in method.masks.items()})
    return model, method, masks


def test_masks_change_when_they_are_due_and_keep_their_size() -> None:
    model, method, masks = trained(every=2)
    for name, layer in thinned_layers(model).items():
        sizes = [int(at[name].sum()) for at in masks]
        assert sizes == [layer.weight.numel() // 4] * 6
        changed = [not torch.equal(after[name], before[name]) for before, after in pairwise(masks)]
        assert changed == [True, False, True, False, False]  # after steps 2 and 4; the sixth is beyond `until`
        assert not layer.weight[~method.masks[name]].any()


def test_a_static_mask_stays() -> None:
    model, method, masks = trained(every=None)
    assert all(torch.equal(at[name], masks[0][name]) for at in masks for name in at)
    assert all(not layer.weight[~method.masks[name]].any() for name, layer in thinned_layers(model).items())
    # Three products at a quarter; the first layer's two are dense.
    first, rest = 36 * 16, 288 * 16 + 256
    assert method.flops(0.0, 1.0) == pytest.approx((2 * first + 0.75 * rest) / (2 * first + 3 * rest))


def test_rigl_goes_on_from_its_state() -> None:
    _, method, _ = trained(every=2)
    again = RigL(0, weights=0.25, budget="uniform", every=2)
    again.adapt(network())
    again.load_state_dict(method.state_dict())
    assert again.steps == 6
    assert all(torch.equal(again.masks[name], mask) for name, mask in method.masks.items())


# ------------------------------------------------------------------------------------------------------------- in the loop
def test_sparse_methods_train_and_spend_what_they_need() -> None:
    """A map of 1 to 16, dense: 2 x 16 FLOPs forward and for its weights. One of 16 to 1: of 3 x 2 x 16 the kept parts."""
    for spec, needed in (
        ({"name": "swat", "weights": 0.25, "activations": 0.5}, 2 * 0.25 + 0.5),
        ({"name": "rigl", "weights": 0.25, "every": None}, 3 * 0.25),
    ):
        fitted, _ = trained_squares(spec, epochs=4)
        assert fitted.cost.total.flops == pytest.approx(4 * 96 * (2 * 32 + needed * 32))
        assert fitted.metrics["test_loss"] < 10
