// Before the first paint: the theme that was chosen here. Not a module, as those run too late for it.
try {
  const chosen = localStorage.getItem("flowq.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage may be forbidden; the system's theme stands */ }
