"use strict";
// The filter of the matrix and the details, and links that lead to what it hides. The page is whole without it.
const form = document.getElementById("filter");
const choices = [...form.querySelectorAll("select")];
const cells = [...document.querySelectorAll("table.matrix td[data-step]")];
const cards = [...document.querySelectorAll("article")];

function wanted(element) {
  return choices.every(({ name, value }) => {
    const own = element.dataset[name];
    return value === "" || (name === "verdict" ? own.split(" ").includes(value) : own === value);
  });
}

function apply() {
  const [, step] = choices.map((choice) => choice.value);
  for (const cell of cells) cell.classList.toggle("off", !wanted(cell));
  for (const card of cards) card.hidden = !wanted(card);
  for (const part of document.querySelectorAll("[data-column]"))
    part.hidden = step !== "" && part.dataset.column !== step;
  for (const row of document.querySelectorAll("table.matrix tbody tr"))
    row.hidden = !row.querySelector("td[data-step]:not(.off)");
  for (const section of document.querySelectorAll("section.system"))
    section.hidden = !section.querySelector("article:not([hidden])");
  for (const fold of document.querySelectorAll("details.fold"))
    fold.hidden = !fold.querySelector("tbody tr:not([hidden])");
  const shown = cells.filter((cell) => !cell.classList.contains("off")).length;
  form.querySelector("output").textContent = shown === cells.length ? "" : `${shown} of ${cells.length} cells`;
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.closest("[hidden], .off")) {
    form.reset();
    apply();
  }
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView({ block: target.matches("td") ? "center" : "start" });
}

form.hidden = false;
form.addEventListener("change", apply);
form.addEventListener("reset", () => setTimeout(apply));
window.addEventListener("hashchange", reveal);
apply();
if (location.hash) reveal();
