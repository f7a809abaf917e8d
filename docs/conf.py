"""How Sphinx makes the documentation's site: `make docs`."""

import os
import sys
import tomllib
from pathlib import Path

import django
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()  # autodoc imports the models

project = "s3direct_uploads"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
copyright = ""
html_show_copyright = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = False

# MyST: an anchor for each heading, so that #a-heading works as on a code forge.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"s3direct_uploads {version}"
html_extra_path = ["openapi.yaml"]
html_theme_options = {"top_of_page_buttons": []}


# These stand beside README.md, where a visitor of the repository looks for them.
PAGES = {"SECURITY": "security", "CONTRIBUTING": "contributing", "CHANGELOG": "changelog"}


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead the links of a page to the pages of this site."""
    for name, there in PAGES.items():
        source[0] = source[0].replace(f"](../{name}.md", f"]({there}.md")
    source[0] = source[0].replace("](../benchmarks/RESULTS.md", "](results.md")


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
