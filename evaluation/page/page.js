"use strict";
// Click on a heading sorts its table: numbers as numbers, empty cells last; a second click turns the order round.
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), table = heading.closest("table"), body = table.tBodies[0];
    const column = [...heading.parentNode.children].indexOf(heading);
    const value = (row) => {
      const cell = row.children[column];
      return (cell.dataset.value ?? cell.textContent).trim();
    };
    const rows = [...body.rows], number = (text) => (text === "" || text === "–" ? NaN : Number(text));
    const texts = rows.some((row) => !["", "–"].includes(value(row)) && Number.isNaN(number(value(row))));
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    const sign = ascending ? 1 : -1;
    rows.sort((one, other) => {
      if (texts) return sign * value(one).localeCompare(value(other), undefined, { numeric: true });
      const a = number(value(one)), b = number(value(other));
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...rows);
  });
}
// The kind that is chosen hides pictures of others, and categories that have none of it.
const kinds = document.getElementById("kind");
function filter() {
  const kind = kinds.value;
  for (const one of document.querySelectorAll("[data-kind]")) one.hidden = kind !== "" && one.dataset.kind !== kind;
  for (const chapter of document.querySelectorAll(".chapter")) chapter.hidden = !chapter.querySelector("[data-kind]:not([hidden])");
  for (const group of document.querySelectorAll(".group")) group.querySelector(".empty").hidden = !!group.querySelector("[data-kind]:not([hidden])");
}
// Where a heat map is wider than the screen, its end is shown first: the map.
for (const image of document.querySelectorAll("article img")) image.parentNode.scrollLeft = image.parentNode.scrollWidth;
kinds.addEventListener("change", filter);
filter();  // a browser that goes back keeps the choice
