// Builds elements. Text goes in as text only: a plant called "<script>" is just an odd name.

/** An element with attributes and children; `class`, `data-*`, `aria-*` and `on…` as attributes. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  check: "M4 12.5 9.5 18 20 6.5",
  cross: "M5 5 19 19M19 5 5 19",
  up: "M12 20V5M5 11.5 12 4.5l7 7",
  down: "M12 4v15M5 12.5l7 7 7-7",
  equal: "M5 9h14M5 15h14",
  bell: "M12 3.5a6 6 0 0 0-6 6c0 5-2 6.5-2 6.5h16s-2-1.500-2-6.500a6 6 0 0 0-6-6ZM10 20h4",
  clock: "M12 3.500a8.500 8.500 0 1 0 0 17 8.500 8.500 0 0 0 0-17ZM12 7.500V12l3 2",
  none: "M5 12h14",
  warn: "M12 4 2.800 20h18.400ZM12 10v4.500M12 17.300v.2",
  theme: "M12 3.500a8.500 8.500 0 1 0 0 17ZM12 3.500a8.500 8.500 0 0 1 0 17",
  undo: "M9 7 4.500 11.500 9 16M5 11.500h9a5 5 0 0 1 0 8h-2",
};

/** A line icon; the words beside it say the same, so it is hidden from screen readers. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Replaces children only when what they show has changed: no flicker, no lost selection or focus. */
export function fill(element, ...children) {
  const fresh = document.createElement("div");
  fresh.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  if (fresh.innerHTML === element.innerHTML) return;
  element.replaceChildren(...fresh.childNodes);
}

/** A table: columns are [heading, class], cells are texts or elements. The first cell heads its row. */
export function table(caption, columns, rows) {
  const cell = (value, i) => h(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, class: columns[i][1], "data-label": columns[i][0] }, ...[value ?? ""].flat());
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([heading, kind]) => h("th", { scope: "col", class: kind }, heading)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map(cell)))),
    ),
  );
}
