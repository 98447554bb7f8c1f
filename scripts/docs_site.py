"""What MkDocs cannot do by itself: pages of the repository's root, one page of API for each room, no foreign hosts.

Links stay as a reader of the repository needs them; here they are turned to where the site has the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "orthanc_plugin"
FROM_ROOT = {
    name: name
    for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "CITATION.cff")
} | {"README.md": "index.md", "orthanc.json": "orthanc.json"}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
_FOREIGN = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//"""
)


def rooms() -> list[str]:
    """Return the rooms and root modules that have a page of API."""
    entries = (ROOT / PACKAGE).iterdir()
    found = {
        entry.stem
        for entry in entries
        if (entry / "__init__.py").exists() or (entry.suffix == ".py" and not entry.stem.startswith("__"))
    }
    return sorted(found)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the navigation that follow from the files."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    for section in config.nav or []:
        if "Decisions" in section:
            section["Decisions"] = ["decisions/README.md", *(f"decisions/{name}" for name in decisions)]
        for entry in section.get("Developers", []):
            if isinstance(entry, dict) and "Code" in entry:
                entry["Code"] = [{room: f"code/{room}.md"} for room in rooms()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for source, target in FROM_ROOT.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    for room in rooms():
        text = f"# {PACKAGE}.{room}\n\n::: {PACKAGE}.{room}\n"
        files.append(File.generated(config, f"code/{room}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site; what the site does not have stays as text."""
    names = {target: source for source, target in FROM_ROOT.items()}
    here = PurePosixPath(names.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def relink(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if not target or ":" in target:
            return match[0]
        path = os.path.normpath(here.parent / target)
        uri = FROM_ROOT.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        uri = f"{uri}/README.md" if uri and files.get_file_from_path(f"{uri}/README.md") else uri
        if uri is None and (ROOT / path).exists():
            return text
        return f"[{text}]({os.path.relpath(uri or path, PurePosixPath(page.file.src_uri).parent)}{anchor})"

    return _LINK.sub(relink, markdown).replace("][/", "]\\[/")  # "host[:port][/path]" is no link


def on_post_build(config: MkDocsConfig) -> None:
    """Fail where a page would load something from another host."""
    site = Path(config.site_dir)
    for path in (*site.rglob("*.html"), *site.rglob("*.css")):
        if found := _FOREIGN.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.relative_to(site)} loads from another host: {found[0]}")
