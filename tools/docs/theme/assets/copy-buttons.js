// The theme wraps the copy button of each block into a <nav>: too many landmarks for those who listen to a page.
new MutationObserver(() => {
  for (const nav of document.querySelectorAll(".md-code__nav:not([role])")) nav.setAttribute("role", "none");
}).observe(document.body, { childList: true, subtree: true });
