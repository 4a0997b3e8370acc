"""``benchmark_fused.py``: a row for every function, and what a row says."""

import json

import jax
import pytest

import benchmark_fused
from pipeline import fused
from pipeline.errors import UserError


def test_every_function_has_a_row():
    assert {name.split()[0].rstrip(",") for name in benchmark_fused.rows()} == set(fused.__all__)


def test_a_row_is_written(tmp_path, capsys):
    with jax.enable_x64(False):
        benchmark_fused.main(("gelu",), json_file=tmp_path / "rows.json")
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    (other,) = row["instead_of"]
    assert (row["name"], other["name"], row["shape"]) == ("gelu", "jax.nn.gelu", [8192, 512])
    assert other["low"] <= other["median"] <= other["high"]
    assert row["ms"] > 0 and other["ms"] > 0 and row["bytes"] > 0
    assert "jax.nn.gelu" in capsys.readouterr().out


def test_an_unknown_function_is_refused():
    with pytest.raises(UserError, match="no function relu; it has ctc_loss"):
        benchmark_fused.main(("relu",))
