"""The wheel: one package called ``backhand``, beside a project with modules that have our folders' names."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

THEIR_TEST = """
import numpy as np
import pipeline
import tasks
from backhand import attach
from backhand.layers import MaxPool


def test_their_own_modules():
    assert pipeline.OWNER == tasks.OWNER == "theirs"


def test_a_rule(assert_gradients_agree):
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    assert assert_gradients_agree(lambda x: x * x, lambda x: (x * x, x), lambda x, d_y: (2 * x * d_y,), (x,)).ok


def test_a_layer():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert attach(MaxPool((2, 2)))({}, x).ravel().tolist() == [5, 7, 13, 15]
"""


def packages() -> set[str]:
    """Every package of ours in the checkout, as it is called when it is installed."""
    folders = {path.parent.relative_to(ROOT / "pipeline") for path in (ROOT / "pipeline").rglob("__init__.py")}
    return {".".join(("backhand", *folder.parts)) for folder in folders}


def test_the_wheel_has_every_package():
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed) and set(listed) == packages()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what is in the checkout, so that no build folder is left there."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--wheel-dir", folder, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def their_python(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel alone; its dependencies are this one's."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    (site,) = (environment / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:  # a wheel of Python alone is installed by being unpacked
        archive.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return python


def run(python: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([python, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)


def test_one_package_and_a_plugin_are_installed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
        assert {name for name in names if not name.endswith(".dist-info")} == {"backhand", "pytest_backhand.py"}
        assert {"backhand/py.typed", "backhand/report/page.html"} <= set(archive.namelist())
        assert not any("plugin" in name for name in archive.namelist() if name.startswith("backhand/"))


def test_a_project_with_modules_of_our_folders_names(their_python, tmp_path):
    (tmp_path / "pipeline.py").write_text('OWNER = "theirs"\n', encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text('OWNER = "theirs"\n', encoding="utf-8")
    (tmp_path / "test_theirs.py").write_text(THEIR_TEST, encoding="utf-8")
    done = run(their_python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_blocks_of_the_readme(their_python, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    python = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "blocks.py").write_text("\n".join(python), encoding="utf-8")
    done = run(their_python, tmp_path, "blocks.py")
    assert done.returncode == 0, done.stderr
    assert len(python) == 2 and done.stdout.splitlines()[:2] == shown[0].splitlines()[:2]


def test_the_plugin_imports_nothing_until_its_fixture_is_used(their_python, tmp_path):
    code = "import sys, pytest_backhand; print(sorted({'jax', 'numpy', 'backhand'} & set(sys.modules)))"
    assert run(their_python, tmp_path, "-c", code).stdout == "[]\n"


def test_the_command(their_python, tmp_path):
    (tmp_path / "rules.py").write_text(
        "def square(x):\n    return x * x\n\n\ndef forward(x):\n    return x * x, x\n\n\n"
        "def backward(x, d_y):\n    return (2 * x * d_y,)\n",
        encoding="utf-8",
    )
    rule = ("--forward", "rules.py:forward", "--backward", "rules.py:backward", "--shapes", "float32[4,5]")
    done = run(their_python, tmp_path, "-m", "backhand", "verify", "rules.py:square", *rule)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(their_python, tmp_path, "-m", "backhand", "nonsense").returncode == 2


def test_a_missing_extra_is_one_clear_message(their_python, tmp_path):
    code = (
        "import sys\nsys.modules['soundfile'] = None\n"
        "from backhand.data.audio import read_audio\n"
        "from pathlib import Path\n"
        "Path('a.wav').write_bytes(b'')\n"
        "read_audio(Path('a.wav'), 8000)\n"
    )
    done = run(their_python, tmp_path, "-c", code)
    assert done.returncode == 1
    assert "soundfile is not installed; it comes with: pip install 'backhand[speech]'" in done.stderr
