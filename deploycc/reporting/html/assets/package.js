"use strict";
document.addEventListener("click", (event) => {
  const mark = event.target.closest("[data-tell]");
  if (!mark) return;
  const figure = mark.closest("figure");
  for (const other of figure.querySelectorAll(".picked")) other.classList.remove("picked");
  mark.classList.add("picked");
  figure.querySelector(".told").textContent = mark.querySelector("title").textContent;
});
for (const link of document.querySelectorAll("a.answer")) {
  link.addEventListener("click", () => {
    const first = document.querySelector(`${link.getAttribute("href")} .bars details`);
    if (first) first.open = true;
  });
}
