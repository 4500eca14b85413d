// What the theme leaves out for those who listen to a page, or use it without a mouse.
function adjust() {
  // The copy button of each block is wrapped into a <nav>: too many landmarks.
  for (const nav of document.querySelectorAll(".md-code__nav:not([role])")) nav.setAttribute("role", "none");
  // A table that is wider than the page scrolls, which needs the focus.
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  }
}
new MutationObserver(adjust).observe(document.body, { childList: true, subtree: true });
new ResizeObserver(adjust).observe(document.body);
