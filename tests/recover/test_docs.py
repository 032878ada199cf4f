"""The examples in the pages on mapping and recovery run and give what they say."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["mapping.md", "recovery.md"])
def test_examples_of_a_page_give_what_it_says(page: str) -> None:
    result = doctest.testfile(str(DOCS / page), module_relative=False)
    assert result.attempted > 4
    assert result.failed == 0
