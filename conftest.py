"""The examples in docstrings, in the README and in the docs are tests.

Of an example that needs what is perhaps not there a page says so: ``<!-- skip: next if(missing, reason="...") -->``.
"""

from unittest import SkipTest
from weakref import WeakKeyDictionary

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

docstrings = Sybil(parsers=[DocTestParser()], path="src", pattern="**/*.py")
pages = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["README.md", "docs/*.md", "docs/**/*.md"])
pytest_collect_file = (docstrings + pages).pytest()
_begun: WeakKeyDictionary[Document, set[int]] = WeakKeyDictionary()  # where the examples start that ran in this process


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Run what comes before an example of a document, if another process was given that."""
    if not isinstance(item, SybilItem):
        return
    document, begun = item.example.document, _begun.setdefault(item.example.document, set())
    for example in sorted(document.examples(), key=lambda one: one.start):
        if example.start < item.example.start and example.start not in begun:
            begun.add(example.start)
            try:
                example.evaluate()
            except SkipTest:
                continue
    begun.add(item.example.start)
