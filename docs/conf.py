"""Sphinx reads this: how the site is built. ``scripts/docs`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import polyconv  # noqa: E402
from polyconv_docs.pictures import GalleryScraper  # noqa: E402

project = "polyconv"
author = "the authors of polyconv"
release = version = polyconv.__version__
project_copyright = "Apache-2.0"
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "polyconv_docs",
]
exclude_patterns = ["_build", "_ext", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|scipy|np|PIL|collections|typing|types|os|pathlib)\..*"),  # no other site is asked for its names
    (
        r"py:.*",
        r"fractions\.Fraction|Array|Sizes|Player|ThemeName|Over|Padding|Photo|polyconv\.(layers\._Windowed|see\.drawing\.Frameable|see\.shapes\.Picture)",
    ),
]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": (GalleryScraper(),),
    "reset_modules": (),
    "capture_repr": ("__repr__",),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "default_thumb_file": str(HERE / "images" / "kinds.png"),
    "min_reported_time": 3600,
}

html_theme = "furo"
html_title = "polyconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_math_renderer = "mathml"
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"footer_icons": [], "navigation_with_keys": False}
copybutton_selector = "div.highlight-python pre, div.highlight-console pre, div.highlight-sh pre"
pygments_style = "tango"
pygments_dark_style = "github-dark"
