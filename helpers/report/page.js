// Conveniences only: the page is whole without them.
document.querySelectorAll(".menu a").forEach((link) =>
  link.addEventListener("click", () => link.closest("details").removeAttribute("open")));
addEventListener("beforeprint", () =>
  document.querySelectorAll("details.whole").forEach((one) => one.setAttribute("open", "")));
