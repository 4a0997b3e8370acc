"""The documents are true: their Python runs, what they print is what they show, and what they point to exists.

The blocks of a page share one namespace, in order, as if a reader pasted them one after the other. A block of text that
stands right after a Python block is what it prints. Shell blocks are not run: their commands and options are looked up.
"""

import ast
import contextlib
import dataclasses
import doctest
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import re
import sys
import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(path for part in ("pipeline", "scripts", "tasks") for path in (ROOT / part).rglob("*.md")),
]
TUTORIAL_OF_INTEROP = ROOT / "pipeline" / "interop" / "TUTORIAL.md"
"""Its blocks run on two devices, in tests/interop/test_tutorial.py."""
README_BYTES = 10_000


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the number of the text's first line."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def fences(self) -> tuple[int, int]:
        """The numbers of the lines around the text."""
        return self.line - 1, self.line + self.text.count("\n")

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """Every fenced block of a page, in order."""
    page_blocks, opening, language = [], 0, ""
    lines = (page.read_text(encoding="utf-8") if text is None else text).split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("```") and not opening:
            opening, language = number, line.removeprefix("```").strip()
        elif line == "```" and opening:
            page_blocks.append(Block(page, language, "\n".join(lines[opening : number - 1]) + "\n", opening + 1))
            opening = 0
    assert not opening, f"{page.name}: the block of line {opening} is not closed"
    return page_blocks


def named(value: Path | Block) -> str:
    return value.name if isinstance(value, Block) else str(value.relative_to(ROOT))


class Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports ``backhand``, as the installed package is called, as the modules of ``pipeline``: the same objects."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "backhand":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = importlib.import_module(spec.name.replace("backhand", "pipeline", 1))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module):
        # The import of the alias has put a spec of its own in the module's place.
        module.__spec__ = module.__spec__.loader_state  # pyright: ignore[reportOptionalMemberAccess]


@pytest.fixture
def installed(monkeypatch):
    """As users run it: ``backhand`` can be imported, and numbers are float32 unless they say otherwise."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "backhand"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Alias(), *sys.meta_path])
    with jax.enable_x64(False):
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "backhand"]:
        del sys.modules[name]


def missing_packages(code: str) -> list[str]:
    """Packages that the code imports and that are not installed."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return sorted(name for name in names - {"backhand"} if importlib.util.find_spec(name) is None)


def run_page(page: Path, page_blocks: list[Block]) -> None:
    """Runs the Python blocks, and compares what each prints with the block of text that follows it.

    A block that needs a package which is not installed is left out: see ``test_packages_of_block``.
    """
    module = types.ModuleType("document")
    module.__file__ = str(page)
    sys.modules["document"] = module  # dataclasses look it up
    try:
        for block, following in zip(page_blocks, [*page_blocks[1:], None]):
            if block.language != "python" or missing_packages(block.text):
                continue
            # As many empty lines as stand before it: tracebacks and the verifier then name the page's own lines.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, vars(module))
            if following is not None and _is_output(following, block):
                assert comparable(output.getvalue()) == comparable(following.text), f"{block.name} prints otherwise"
    finally:
        del sys.modules["document"]


def _is_output(block: Block, code: Block) -> bool:
    """Whether nothing but an empty line is between the code and a block of text."""
    return block.language == "text" and block.fences[0] - code.fences[1] == 2


def comparable(text: str) -> list[str]:
    """The words of a text without what differs between machines: numbers, bars, places in files.

    Of a row of a report's table the check, the precision and the outcome are left: the worst leaf is that of rounding.
    """
    rows = [line.split("│") for line in text.splitlines() if line[:1] not in ("┏", "┃", "┡", "└")]
    text = "\n".join(f"{cells[1]} {cells[2]} {cells[-2]}" if len(cells) > 3 else cells[0] for cells in rows)
    text = re.sub(r"\(\S+, line \d+\)", "(place)", text)
    text = re.sub(r"[·▁▂▃▄▅▆▇█]+", " ", text)
    return re.sub(r"-?\d[\d.,]*(e[+-]\d+)?", "number", text).split()


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL_OF_INTEROP], ids=named)
def test_python_runs(page, installed):
    run_page(page, blocks(page))


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page) if b.language == "python"], ids=named)
def test_packages_of_block(block):
    missing = missing_packages(block.text)
    if missing:
        pytest.skip(f"{block.name} is not run: {', '.join(missing)} is not installed")


BROKEN = {
    "raises": "```python\nfrom backhand.layers import NoSuchLayer\n```\n",
    "prints something else": "```python\nprint('right')\n```\n\n```text\nwrong\n```\n",
    "names nothing": "```python\nx = 1\n```\n\n```python\ny = x + z\n```\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_block_is_found(text, installed):
    with pytest.raises((ImportError, AssertionError, NameError)):
        run_page(ROOT / "README.md", blocks(ROOT / "README.md", text))


def test_the_installed_name_is_the_same_package(installed):
    from backhand.layers.pooling import MaxPool  # pyright: ignore[reportMissingImports]

    import pipeline.layers.pooling

    assert MaxPool is pipeline.layers.pooling.MaxPool
    assert pipeline.layers.pooling.__spec__.name == "pipeline.layers.pooling"


def test_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= README_BYTES


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What links to a page's headings end in, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files or headings that do not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found():
    text = "[a](tasks/no_such.md) [b](tasks/README.md#no-such-heading) [c](README.md) ![d](no_picture.png)"
    assert broken_links(ROOT / "README.md", text) == [
        "tasks/no_such.md",
        "tasks/README.md#no-such-heading",
        "no_picture.png",
    ]


@cache
def options_of(task: str) -> set[str]:
    """Every option of a task's commands, as ``--learning-rate`` is written on the command line."""
    from tasks.framework import command_line

    module = importlib.import_module(f"tasks.{task}")
    classes = [
        value
        for part in (module, command_line)
        for value in vars(part).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value)
    ]
    return {"--help"}.union(*(fields_of(kind) for kind in classes))


def fields_of(kind: type, prefix: str = "--") -> set[str]:
    options = set()
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name.replace('_', '-')}"
        options.add(name)
        if isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
            options |= fields_of(field.default_factory, f"{name}.")
    return options


def unknown_in(text: str) -> list[str]:
    """Tasks, options, modules and files in the commands of a page that do not exist."""
    unknown = []
    for task, rest in re.findall(r"scripts/run ([a-z]\w*)((?:[^\n`#|\"]|\"[^\"\n]*\")*)", text):
        if not (ROOT / "tasks" / f"{task}.py").is_file():
            unknown.append(task)
            continue
        options = re.findall(r"(?<= )--[a-z][\w.-]*", rest)
        unknown += [f"{task} {option}" for option in options if option not in options_of(task)]
    unknown += [name for name in re.findall(r"-m (pipeline[\w.]*)", text) if importlib.util.find_spec(name) is None]
    files = re.findall(r"(?<![\w/.])((?:pipeline|scripts|tasks|tests)/[\w./]*\w)", text)
    return unknown + [name for name in files if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_files_exist(page):
    assert unknown_in(page.read_text(encoding="utf-8")) == []


def test_an_unknown_command_is_found():
    text = (
        "`scripts/run cooking`, `scripts/run sentiment --no-such-option 3`, `python -m pipeline.cook`, scripts/cook.py"
    )
    assert unknown_in(text) == ["cooking", "sentiment --no-such-option", "pipeline.cook", "scripts/cook.py"]
    assert unknown_in("`scripts/run sentiment --epochs 3 --optimizer.name muon`, `scripts/run TASK`") == []


def examples_in(path: Path) -> int:
    """The number of ``>>>`` in a file."""
    return len(re.findall(r"^\s*>>> ", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "pipeline").rglob("*.py"))
    if examples_in(path)
}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, installed):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} is not run: {error}")
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, name)
    assert sum(len(test.examples) for test in tests) == examples_in(MODULES[name]), "an example is in no docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with io.StringIO() as output:
        for test in tests:
            runner.run(test, out=output.write)
        assert runner.summarize(verbose=False).failed == 0, output.getvalue()
