/** The button that switches between light and dark. The choice is kept; until there is one, the system's counts. */

const KEY = "daguerre-theme";

export function wireAppearance(button: HTMLButtonElement): void {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const say = () => button.setAttribute("aria-pressed", String(dark()));

  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      // It holds for this page then.
    }
    say();
  });
  system.addEventListener("change", say);
  say();
}
