"use strict";
(() => {
  const number = (cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));

  // The first click on a heading puts the best first; the next one reverses the order. Undefined values stay last.
  const sort = (table, heading, kind) => {
    const place = heading.cellIndex;
    const before = heading.getAttribute("aria-sort");
    const first = kind === "down" ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const compare = (one, two) => {
      const a = one.cells[place];
      const b = two.cells[place];
      if (kind === "text") {
        return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
      }
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) {
        return Number.isNaN(x) - Number.isNaN(y);
      }
      return sign * (x - y);
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
    for (const one of table.tHead.rows[0].cells) {
      one.removeAttribute("aria-sort");
    }
    heading.setAttribute("aria-sort", order);
  };

  const filter = (table, text, told) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const name = `${row.cells[0].textContent} ${row.cells[row.cells.length - 1].textContent}`.toLowerCase();
      row.hidden = !words.every((word) => name.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    const all = table.tBodies[0].rows.length;
    told.textContent = shown === all ? `${all} models` : `${shown} of ${all} models`;
  };

  for (const table of document.querySelectorAll("table.leaderboard")) {
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sort(table, button.closest("th"), button.dataset.sort));
    }
    const input = document.querySelector(`[aria-controls="${table.id}"]`);
    const told = input.parentElement.querySelector("[role=status]");
    input.addEventListener("input", () => filter(table, input.value, told));
  }

  // A table that is wider than the screen says so, and has a shadow at its end until it is scrolled there.
  const boxes = [...document.querySelectorAll(".scroll")];
  const mark = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    box.classList.toggle("more", hidden - box.scrollLeft > 2);
    const hint = box.previousElementSibling;
    if (hint !== null && hint.classList.contains("scrolls")) {
      hint.hidden = hidden <= 2;
    }
  };
  const markAll = () => boxes.forEach(mark);
  boxes.forEach((box) => box.addEventListener("scroll", () => mark(box), { passive: true }));
  window.addEventListener("resize", markAll);
  document.addEventListener("toggle", markAll, true);
  markAll();

  // Names in a legend hide and show their series.
  for (const key of document.querySelectorAll(".legend .key")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key";
    button.setAttribute("aria-pressed", "true");
    button.append(...key.childNodes);
    key.replaceWith(button);
    const figure = button.closest("figure");
    const series = figure.querySelectorAll(`.series[data-series="${key.dataset.series}"]`);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      series.forEach((one) => one.classList.toggle("away", !shown));
    });
  }
})();
