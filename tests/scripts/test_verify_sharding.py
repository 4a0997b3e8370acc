"""``verify_sharding.py``: a batch that is spread over devices stays where it is."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_sharding.py"

GATHERING = """
import sys
import verify_sharding
from gradient_cases.case import Case, normal
from pipeline.layers.activations import Tanh

class Gathering(Tanh):
    def backward(self, params, residuals, d_y):
        rows = residuals.swapaxes(0, 1).reshape(-1)  # merges the batch behind another axis
        return {}, ((1 - rows * rows) * d_y.swapaxes(0, 1).reshape(-1)).reshape(d_y.shape[::-1]).swapaxes(0, 1)

verify_sharding.CASES = (Case("Gathering", Gathering(), normal(2, 5)),)
sys.argv[1:] = []
verify_sharding.run(verify_sharding.main)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=SCRIPT.parent, text=True, capture_output=True, timeout=500, check=False
    )


def test_rules_with_loops_and_merged_axes():
    """Those whose rule has a loop, a reshape or a sum over the batch; ``.ci/run`` compiles all of them."""
    names = ("Dense", "Conv", "MaxPool", "LSTM", "DotProductAttention", "Repeat", "VocabularyCrossEntropy", "CTC")
    result = run(str(SCRIPT), *names)
    assert (result.returncode, result.stdout) == (0, "8 rules on 8 devices: no problems\n"), result.stderr


def test_a_rule_that_gathers_its_batch_is_named():
    result = run("-c", GATHERING)
    assert result.returncode == 1
    assert "Gathering: " in result.stdout and "all-gather" in result.stdout


def test_an_unknown_name():
    result = run(str(SCRIPT), "Nothing")
    assert result.returncode == 2
    assert result.stderr.startswith("there is no layer or loss named Nothing; there are ")
