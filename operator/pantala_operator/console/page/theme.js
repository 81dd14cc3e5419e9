// Sets the colours before the page is drawn, so that the colours do not change while it loads. "auto" follows the system.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("pantala-theme");
  } catch {
    // Storage may be off. The page then follows the system.
  }
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : "auto";
})();
