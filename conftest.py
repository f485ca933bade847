"""The examples in docstrings, in the README and in the docs are tests.

Of an example that needs what is perhaps not there a page says so: ``<!-- skip: next if(missing, reason="...") -->``.
"""

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

docstrings = Sybil(parsers=[DocTestParser()], path="src", pattern="**/*.py")
pages = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["README.md", "docs/*.md", "docs/**/*.md"])
pytest_collect_file = (docstrings + pages).pytest()
