"use strict";
// Tables that are sorted by a click on a column's title; empty cells stay last.
(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  function compare(a, b, direction) {
    if (a.empty || b.empty) return a.empty - b.empty;
    const order = a.number !== null && b.number !== null ? a.number - b.number : collator.compare(a.text, b.text);
    return direction * order;
  }

  function key(row, column) {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    return { row, text, empty: text === "", number: cell.dataset.order === undefined ? null : Number(cell.dataset.order) };
  }

  function sort(table, head) {
    const column = head.cellIndex;
    const before = head.getAttribute("aria-sort");
    // numbers are looked at from the largest
    const first = head.classList.contains("number") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const now = before === first ? other : first;
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", now);
    const body = table.tBodies[0];
    const keys = Array.from(body.rows, (row) => key(row, column));
    keys.sort((a, b) => compare(a, b, now === "ascending" ? 1 : -1));
    body.append(...keys.map((k) => k.row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const head = event.target.closest("th");
      if (head) sort(table, head);
    });
  }
})();
