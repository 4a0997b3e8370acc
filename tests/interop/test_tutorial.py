"""The tutorial's losses where JAX computes in float64, with the batch on two devices: no replacement changes them."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "pipeline" / "interop" / "TUTORIAL.md"


def test_replacements_change_no_loss(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    code, shown = ("\n".join(re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)) for kind in ("python", "text"))
    script = tmp_path / "tutorial.py"
    script.write_text(code.replace("from backhand", "from pipeline"), encoding="utf-8")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "PYTHONPATH": str(PAGE.parents[2])}
    result = subprocess.run([sys.executable, script], env=env, text=True, capture_output=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    differences = {
        name: float(difference) for name, difference in re.findall(r"^(.*): .* at most (\S+)$", result.stdout, re.M)
    }
    names = ("convolutional network", "transformer", "convolutional network on 2 devices", "transformer on 2 devices")
    assert tuple(differences) == names, result.stdout
    # Flax's parameters stay float32, so that Adam's updates show in which order two devices sum.
    for name, difference in differences.items():
        assert difference < (1e-6 if "2 devices" in name else 1e-12), name
    words = [re.sub(r"\d[\d.e+-]*", "number", lines).split() for lines in (result.stdout, shown)]
    assert words[0] == words[1]  # "True" and "number devices" among them
