/**
 * Light or dark, decided before the first paint: what was chosen here once, else what the system says. A classic
 * script in the head, because a module would come after the page was first drawn in the wrong colours.
 */
{
  let choice: string | null = null;
  try {
    choice = localStorage.getItem("daguerre-theme");
  } catch {
    // Storage may be forbidden; then the system decides each time.
  }
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
}
