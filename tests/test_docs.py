"""The documentation: nothing public is missing, links lead somewhere, and what checks the site notices faults."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

import polyconv as pc

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = {"_build", "gallery"}
PAGES = [path for path in DOCS.rglob("*.md") if not MADE & set(path.relative_to(DOCS).parts)]


@pytest.fixture
def tools(monkeypatch):
    """The directives' modules."""
    pytest.importorskip("sphinx", reason="NOT RUN: the site's own code needs polyconv[docs]")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return lambda name: import_module(f"polyconv_docs.{name}")


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return import_module("check")


def documented() -> set[str]:
    return set(re.findall(r"^\.\. auto\w+:: (\S+)", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE))


def test_every_public_name_is_in_the_reference():
    modules = {name for name in pc.__all__ if f"polyconv.{name}" in documented()}
    assert modules == {"architectures"}
    assert set(pc.__all__) - modules - documented() == set()


@pytest.mark.parametrize("name", sorted(documented()))
def test_what_the_reference_names_exists_and_says_what_it_is(name):
    module, _, last = name.rpartition(".")
    thing = (
        import_module(name) if name == "polyconv.architectures" else getattr(import_module(module or "polyconv"), last)
    )
    assert name == "ACTIVATIONS" or (thing.__doc__ or "").strip()


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_work_in_the_plain_repository(path):
    text = re.sub(r"^(`{3,}).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|#", target) or target == "gallery/index":  # the gallery is made from examples/
            continue
        assert (path.parent / unquote(target.split("#")[0])).exists(), target


def test_every_example_stands_on_its_own():
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert examples
    for path in examples:
        assert path.name.startswith("plot_")
        assert path.read_text(encoding="utf-8").startswith('"""\n'), f"{path.name} begins with its title"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<img src="https://example.org/a.png">'),
        ("a.html", '<img srcset="a.png 1x, //example.org/b.png 2x">'),
        ("a.html", '<link rel="stylesheet" href="//example.org/a.css">'),
        ("a.html", '<script src="http://example.org/a.js"></script>'),
        ("a.html", '<iframe src="https://example.org/"></iframe>'),
        ("a.html", '<style>@font-face { src: url("https://example.org/a.woff") }</style>'),
        ("a.html", '<p style="background: url(https://example.org/a.png)">'),
        ("a.html", '<script>fetch("https://example.org/a")</script>'),
        ("a.css", '@import "https://example.org/a.css";'),
        ("a.js", 'import("https://example.org/a.js")'),
        ("a.svg", '<svg><image href="https://example.org/a.png"/></svg>'),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(check, name, text):
    assert len(check.loaded_from_elsewhere(name, text)) == 1


def test_links_and_local_files_are_no_fault(check):
    text = '<a href="https://example.org/">a</a><img src="a.png"><link rel="canonical" href="https://example.org/">'
    assert check.loaded_from_elsewhere("a.html", text) == []


def test_a_site_with_a_fault_fails(check, tmp_path, capsys):
    assert check.main(tmp_path) == 2
    page = tmp_path / "index.html"
    page.write_text('<!doctype html><link rel="icon" href="data:,"><title>a</title><p>fine', encoding="utf-8")
    assert check.main(tmp_path) == 0
    page.write_text(page.read_text() + '<img src="none.png" alt="">', encoding="utf-8")
    assert check.main(tmp_path) == 1
    assert "there is no none.png" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["conv 3x3 1 stride 2 padding 1", "separable 3x3 2", "transposed 3 1 stride 2"])
def test_a_film_shows_each_frame_as_it_is(tools, text):
    """At each moment the visible elements are the frame's, in its order."""
    from polyconv.see.svg import one

    drawing = pc.network(text).draw()
    pictures = list(drawing.frames)
    made = tools("film").film(pictures, 1)
    beats = len(pictures) + tools("film").LAST - 1
    stops = {
        name: [(float(at), word == "visible") for at, word in re.findall(r"([\d.]+)%\{visibility:(\w+)\}", body)]
        for name, body in re.findall(r"@keyframes (\w+)\{(.*?\}+?)\}", made)
    }
    body = made.split("</style>")[1]
    for index, picture in enumerate(pictures):
        moment = 100 * (index + 0.5) / beats
        seen, visible = [], True
        for line in body.splitlines():
            group = re.fullmatch(r'<g class="(\w+)">', line)
            if group:
                visible = [shown for at, shown in stops[group[1]] if at <= moment][-1]
            elif line == "</g>":
                visible = True
            elif line and line != "</svg>" and visible:
                seen.append(line)
        assert seen == [one(shape) for shape in picture.shapes], index


def test_blocks_are_run(tools):
    blocks = tools("blocks")
    names: dict = {}
    assert blocks.run_python("x = 2\nprint('a')\nx + 1", names, "here") == "a\n3"
    assert blocks.run_python("x = x + 5", names, "here") == ""
    assert names["x"] == 7
    with pytest.raises(AssertionError):
        blocks.run_python("assert x == 8", names, "here")
    assert "81" in blocks.run_console("ls\npolyconv count 'conv 3x3 1 nobias' --input 1x5x5")
    with pytest.raises(ValueError, match="status 2"):
        blocks.run_console("polyconv count 'conf 3x3 1' --input 1x5x5")


FAULTY = {
    "python": ("```python\nassert 1 == 2\n```", "AssertionError"),
    "console": ("```console\npolyconv count nothing --input 1x5x5\n```", "ended with status 2"),
    "picture": ("```{polyconv} conv 3x3 1 stirde 2\n```", "did you mean 'stride'"),
    "numbers": ("```{numbers}\nconv 3x3 1 @ 1x2x2\n```", "conv 3x3 1 @ 1x2x2: "),
    "formula": ("$\\nosuchsign$", "cannot be read"),
    "link": ("[](nowhere.md)", "nowhere.md"),
}


def built(folder: Path, pages: dict[str, str]) -> subprocess.CompletedProcess:
    """A small site with these pages, built as the real one is."""
    names = "\n".join(pages)
    (folder / "index.md").write_text(f"# Index\n\n```{{toctree}}\n{names}\n```\n", encoding="utf-8")
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    (folder / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(DOCS / '_ext')!r})\nnitpicky = True\nhtml_math_renderer = 'mathml'\n"
        "extensions = ['myst_parser', 'polyconv_docs']\nmyst_enable_extensions = ['dollarmath']\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(folder), str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_build_tells_faults(tools, tmp_path):
    tools("film")
    done = built(tmp_path, {name: text for name, (text, _) in FAULTY.items()})
    assert done.returncode != 0
    for name, (_, said) in FAULTY.items():
        assert re.search(rf"{name}\.md:\d.*?{re.escape(said)}", done.stderr, re.DOTALL), f"{name}: {done.stderr}"


def test_a_build_without_faults(tools, tmp_path):
    tools("film")
    page = "```{polyconv} conv 3 1\n:x: [[1, 2, 4]]\n:weight: [1, 10, 100]\nFine.\n```\n\n```python\nprint(6 * 7)\n```"
    done = built(tmp_path, {"page": page})
    assert (done.returncode, done.stderr) == (0, "")
    html = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "42" in html
    (picture,) = set(re.findall(r'src="(_pictures/\S+-light.svg)"', html))
    assert ">421</text>" in (tmp_path / "out" / picture).read_text(encoding="utf-8")
