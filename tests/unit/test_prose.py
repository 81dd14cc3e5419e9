"""The product, README and docs are written in plain English, as CONTRIBUTING.md describes."""

from pathlib import Path

import pytest

from tests.support import prose

PAGES = prose.find([prose.ROOT / name for name in prose.PAGES], ".md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_no_forbidden_word_and_no_long_sentence(page: Path) -> None:
    passages = prose.page_passages(page)
    assert [] == prose.count(passages).broken
    assert [] == prose.long_sentences(passages)[1]


def test_pages_use_few_vague_words_and_short_sentences() -> None:
    passages = [passage for page in PAGES for passage in prose.page_passages(page)]
    assert [] == prose.count(passages).too_many()
    assert prose.MEDIAN_SENTENCE >= prose.long_sentences(passages)[0]


@pytest.mark.skip(reason="the packages are being rewritten")
def test_packages_have_no_forbidden_word_and_few_vague_ones() -> None:
    files = prose.find([prose.ROOT / name for name in prose.PACKAGES], ".py")
    total = prose.count([passage for file in files for passage in prose.python_passages(file)])
    assert [] == total.broken + total.too_many()


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("It shall be done anew.", 2),
        ("This is no URL, and there are no others.", 2),
        ("It is no longer used, and is no more.", 0),
        ("It is not a valid URL. Marshall knows `shall`.", 0),
    ],
)
def test_forbidden_words_are_found_outside_of_code(text: str, broken: int) -> None:
    assert broken == len(prose.count([prose.Passage(Path("page.md"), 1, text)]).broken)


def test_docstrings_comments_and_texts_are_read_but_not_names(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""A docstring."""\n# A comment.\nNAME = {"key": "two words", "KEY": f"{NAME} is set"}\n')
    assert ["A docstring.", "two words", " is set", "A comment."] == [p.text for p in prose.python_passages(file)]


def test_a_page_is_split_into_paragraphs_items_and_cells(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\nOne. Two\nlines.\n\n- an item\n  goes on\n\n| a | b |\n|---|---|\n\n```\ncode\n```\n    code\n"
    )
    passages = prose.page_passages(page)
    assert ["One. Two\nlines.", "an item\ngoes on", "a", "b"] == [passage.text for passage in passages]
    assert ["One.", "Two lines."] == prose.sentences(passages[0])
