"""The site: pages made from the program, and what commands print with ``--json`` against the schemas that it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import TypeAdapter

from apisr.cli.schemas import Machine, ModelRow, SettingsReport
from apisr.weights import list_models

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("site")


@pytest.mark.parametrize(
    "words, kind",
    [
        (["models"], list[ModelRow]),
        (["models", "list"], list[ModelRow]),
        (["config", "--profile", "dvd"], SettingsReport),
        (["doctor"], Machine),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_printed_follows_its_schema(words: list[str], kind: object, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "apisr", *words, "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed
    TypeAdapter(kind).validate_python(printed, strict=True)


def test_a_key_that_the_schema_does_not_know_is_an_error() -> None:
    row = TypeAdapter(list[ModelRow]).json_schema()["$defs"]["ModelRow"]
    assert row["additionalProperties"] is False


def test_every_model_has_a_page_with_its_picture(site: ModuleType) -> None:
    pages = site.pages()
    for model in list_models():
        page = pages[f"reference/cards/{model.name}.md"]
        assert model.sha256 in page
        assert f"models/{model.name.removesuffix('-vivid')}.webp" in page
        assert f"cards/{model.name}.md" in pages["reference/cards.md"]
    for name in ("models", "config", "doctor", "doctor --benchmark"):
        assert f"## apisr {name} --json" in pages["reference/results.md"]


def test_every_page_is_in_the_navigation(site: ModuleType) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    made = {page for page in site.pages() if not page.startswith("reference/cards/")}
    for page in sorted(written | made):
        assert f": {page}\n" in navigation, page


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.name
)
def test_issue_forms_can_be_read(form: Path) -> None:
    """What the host of the repository demands of a form: known elements, ids that differ, labels."""
    yaml = pytest.importorskip("yaml", reason="the forms are YAML")
    read = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name == "config.yml":
        assert read == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(read) <= {"name", "description", "body", "labels", "title"}
    assert {element["type"] for element in read["body"]} <= {"markdown", "input", "textarea", "dropdown", "checkboxes"}
    names = [element["id"] for element in read["body"]]
    assert len(names) == len(set(names))
    for element in read["body"]:
        assert element["attributes"]["label"]
        assert set(element) <= {"type", "id", "attributes", "validations"}


def test_the_citation_is_that_of_this_version() -> None:
    from apisr.core.version import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
