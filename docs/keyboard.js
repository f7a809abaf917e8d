// What Sphinx and its theme leave out, for those who read with a keyboard or a screen reader.

const CAPTIONS = ".caption[role=heading]";
const DRAWERS = {".sidebar-drawer": "Pages", ".toc-drawer": "On this page"};

addEventListener("DOMContentLoaded", () => {
  for (const each of document.querySelectorAll("pre, .table-wrapper")) {
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0; // so that the arrow keys scroll it
  }
  for (const each of document.querySelectorAll(CAPTIONS)) each.setAttribute("aria-level", "2");
  for (const [drawer, name] of Object.entries(DRAWERS)) document.querySelector(drawer)?.setAttribute("aria-label", name);
});
