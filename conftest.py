"""The examples in docstrings, in the README and in the docs are tests."""

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

docstrings = Sybil(parsers=[DocTestParser()], path="src", pattern="**/*.py")
pages = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md", "docs/**/*.md"])
pytest_collect_file = (docstrings + pages).pytest()
