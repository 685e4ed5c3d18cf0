"use strict";
// Adds what a page without script lacks: sorting of tables and a filter for answers. Reads the page, never its data as code.
(() => {
  // What a cell says first: its value, and not the interval below it. Not innerText, which is empty in closed parts.
  const text = (cell) => {
    const words = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
      const found = words.currentNode.data.trim();
      if (found && !words.currentNode.parentElement.closest("[aria-hidden]")) return found;
    }
    return "";
  };
  const number = (cell) => {
    const found = /^\+?([\u2212-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)/i.exec(text(cell));
    return found ? Number(found[1].replace("\u2212", "-").replaceAll(",", "")) : NaN;
  };
  // Equal rows stay as they stand, and those without a number come last in both directions.
  const compare = (column, numeric, way) => (left, right) => {
    const [one, other] = [left.cells[column], right.cells[column]];
    if (!numeric) return way * text(one).localeCompare(text(other));
    const [low, high] = [number(one), number(other)];
    if (Number.isNaN(low) || Number.isNaN(high)) return Number(Number.isNaN(low)) - Number(Number.isNaN(high));
    return way * (low - high);
  };
  const sort = (table, column, button) => {
    const head = table.tHead.rows[0].cells[column];
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    const numeric = head.classList.contains("num") && rows.some((row) => !Number.isNaN(number(row.cells[column])));
    table.tBodies[0].append(...rows.sort(compare(column, numeric, falling ? -1 : 1)));
    button.focus();
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = "\u21c5";
      button.setAttribute("aria-label", "Sort by " + text(cell));
      button.addEventListener("click", () => sort(table, column, button));
      cell.append(" ", button);
    });
  }
  const filter = (selector, heading, words) => {
    const things = document.querySelectorAll(selector);
    if (!things.length) return;
    const field = document.createElement("input");
    const label = document.createElement("label");
    const count = document.createElement("output");
    field.type = "search";
    label.className = "filter";
    label.append(words, field, " ", count);
    document.querySelector(heading).after(label);
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      let shown = 0;
      for (const one of things) {
        one.hidden = !one.textContent.toLowerCase().includes(wanted);
        shown += Number(!one.hidden);
      }
      for (const outer of field.closest("section").querySelectorAll("details:not(.pair)")) {
        outer.open = wanted !== "" && outer.querySelector(".pair:not([hidden])") !== null;
      }
      count.textContent = shown + " of " + things.length;
    });
  };
  filter("#answers details.pair", "#answers h2", "Show only answers on this page with ");
  filter("#readings details.pair", "#readings h2", "Show only answers on this page with ");
  filter("#runs tbody tr", "#runs h2", "Show only merges with ");
})();
