"""How `make docs` builds the site: nothing is fetched from a network."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent / "src")]

import caloforge.runtime.provenance as provenance  # noqa: E402

project = "caloforge"
author = "The caloforge developers"
copyright = "the caloforge developers, BSD-3-Clause"
release = provenance.code_version()

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",  # docs/_ext
    "reference",
    "streams",
]
exclude_patterns = ["_ext"]
nitpicky = False
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# a tutorial is run anew where its code or ours changed; `make docs` keeps what ran in build/docs-cache
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS.parent / "build" / "docs-cache")
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # bars of progress
nb_merge_streams = True

default_role = "code"
autodoc_default_options = {
    "members": True,
    "exclude-members": "model_config, Settings",
    "show-inheritance": True,
    "inherited-members": "BaseModel,Module,tuple,Protocol",
}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "caloforge"
html_static_path = ["_static"]
html_css_files = ["caloforge.css"]
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#a63a1e", "color-brand-content": "#8f3219"},
    "dark_css_variables": {"color-brand-primary": "#ff9a73", "color-brand-content": "#ff9a73"},
}
copybutton_exclude = ".linenos, .gp, .go"
