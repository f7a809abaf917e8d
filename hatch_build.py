"""What the packages say of the repository: links, from ``repository`` in pyproject.toml."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


class Repository(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, object]) -> None:
        repository = self.config["repository"].rstrip("/")
        readme = (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_links(readme, repository, f"v{metadata['version']}"),
        }
        metadata["urls"] = urls(repository) if repository else {}


def urls(repository: str) -> dict[str, str]:
    return {
        "Source": repository,
        "Documentation": f"{repository}/blob/HEAD/README.md",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
    }


def with_links(readme: str, repository: str, tag: str) -> str:
    """The README for a package index, where no relative link leads anywhere.

    Its links lead to the repository at this tag. Without a repository, their words stay and its
    pictures go.
    """

    def absolute(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        if not repository:
            return "" if picture else words
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return LINK.sub(absolute, readme)
