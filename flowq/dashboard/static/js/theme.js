// Before the first paint, as no module is: the theme that was chosen here.
try {
  document.documentElement.dataset.theme = localStorage.getItem("flowq.theme") ?? "";
} catch { /* forbidden */ }
