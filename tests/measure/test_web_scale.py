"""The measurement of large image-text datasets, on a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrimp.measure import web_scale
from scrimp.measure.web_scale import extrapolated, make_tar, measure, read_in_order


class Here:
    """A pool of processes that is this process."""

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def apply(self, function: object, arguments: tuple[Path]) -> dict[str, float]:
        assert function is read_in_order
        return read_in_order(*arguments)


def test_what_pairs_cost_is_measured_and_extrapolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_scale.multiprocessing, "get_context", lambda _: type("", (), {"Pool": lambda *_: Here()})())
    monkeypatch.setattr(web_scale, "IN_A_TAR", 150)
    found = measure(400, 1, tmp_path)
    assert found["pairs"] == 400
    assert len(list((tmp_path / "tars").iterdir())) == 3
    rows = {"tokens": 2 * 64, "place": 16, "set": 4, "descriptive": 1, "extended": 1}
    for name, wanted in rows.items():
        assert found[f"{name}.npy, bytes a pair"] == pytest.approx(wanted + 128 / 400, abs=0.5)  # and a header
    assert all(found[name] > 0 for name in found if name.endswith("second"))
    assert not (tmp_path / ".web.parts").exists()
    told = extrapolated({**found, **{f"{name}.npy, bytes a pair": float(wanted) for name, wanted in rows.items()}})
    assert told["mapped on disk"] == "192 GB"  # 150 bytes a pair


def test_the_same_pairs_give_the_same_tar(tmp_path: Path) -> None:
    first, second = (make_tar(tmp_path / name, 20, 40).read_bytes() for name in ("a.tar", "b.tar"))
    assert first == second
