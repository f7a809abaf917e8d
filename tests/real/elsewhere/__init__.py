"""A host whose page is on another origin. docs/other-origin.md has its settings and its page."""
