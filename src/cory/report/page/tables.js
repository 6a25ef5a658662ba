/** A table whose heads are buttons that sort it. */
function drawTable(table) {
  const body = element("tbody");
  const heads = table.columns.map((column, index) =>
    element("th", { scope: "col", class: column.is_text ? "text" : null },
      element("button", { type: "button", onclick: () => sort(index) }, column.title)));
  const rows = table.rows.map((cells) => ({
    cells,
    row: element("tr", {}, ...cells.map((cell, index) =>
      element(index ? "td" : "th", {
        scope: index ? null : "row",
        class: table.columns[index].is_text ? "text" : null,
      }, ...visible(cell.text)))),
  }));

  function sort(index) {
    const descending = heads[index].getAttribute("aria-sort") === "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[index].setAttribute("aria-sort", descending ? "descending" : "ascending");
    const ordered = rows.toSorted((left, right) =>
      compare(left.cells[index].value, right.cells[index].value, descending ? -1 : 1));
    body.replaceChildren(...ordered.map(({ row }) => row));
  }

  body.append(...rows.map(({ row }) => row));
  const drawn = element("div", { class: table.columns.every((column) => column.is_text) ? "table settings" : "table", tabindex: "0", role: "region", "aria-label": table.caption },
    element("table", {},
      table.is_folded ? null : element("caption", {}, ...visible(table.caption)),
      element("thead", {}, element("tr", {}, ...heads)), body));
  if (!table.is_folded) return drawn;
  return element("details", {}, element("summary", {}, table.caption), drawn);
}
