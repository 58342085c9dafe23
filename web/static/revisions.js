// Every revision of one figure: what was said, when, and why it was said anew.

import { fill, h, table } from "./dom.js";
import { get } from "./feed.js";
import { clock, figure, percent, plain, zoneName } from "./format.js";
import { causeText, QUALITIES, reasonText, unitName } from "./words.js";

const KEYS = { intensity: ["scope", "id", "window", "product"], rollup: ["scope", "measures", "product", "span"] };

/** A row's state; where it was said more than once, a button that shows each time. */
export function stateOf(tableName, row, title, zone, asOf = null) {
  if (!row.revision) return row.state === "open" ? "still filling" : row.state;
  const show = (event) => new Revisions(tableName, row, title, zone, asOf).open(event.currentTarget);
  return h("button", { type: "button", class: "plain small", onclick: show }, `${row.state}, revision ${row.revision}`);
}

class Revisions {
  constructor(tableName, row, title, zone, asOf) {
    Object.assign(this, { tableName, row, title, zone, asOf });
  }

  async open(opener) {
    const { row, zone, title } = this;
    const body = h("div", {}, h("p", { class: "quiet" }, "Loading…"));
    const close = h("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Close");
    const span = `${this.moment(row.start)} – ${this.moment(row.end)}`;
    const dialog = h(
      "dialog",
      { class: "revisions", "aria-label": `Revisions of ${title}` },
      h("h3", {}, title),
      h("p", { class: "quiet" }, `${span}, ${zoneName(zone, Date.parse(row.end))}`),
      body,
      h("p", {}, close),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      opener.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
    try {
      const rows = await this.asked();
      fill(body, table(`Revisions of ${title}`, COLUMNS, rows.map((one) => this.cells(one))));
    } catch (fault) {
      fill(body, h("p", { class: "quiet" }, `Not to be had now: ${fault.message}`));
    }
  }

  /** All that was reported of the row's key, oldest first. */
  async asked() {
    const { tableName, row, asOf } = this;
    const key = Object.fromEntries(KEYS[tableName].map((name) => [`column.${name}`, row[name] ?? ""]));
    const end = Date.parse(row.end);
    const bounds = { from: new Date(end - 1).toISOString(), to: new Date(end).toISOString(), as_of: asOf };
    const { rows } = await get(`/api/rows/${tableName}`, { ...key, ...bounds, history: 1 });
    return rows.sort((one, other) => one.revision - other.revision);
  }

  cells(one) {
    const value = this.tableName === "intensity" ? one.value : one.amount;
    const unit = unitName(one.unit ?? "");
    const known = value !== null && value !== undefined;
    const words = known ? `${this.tableName === "intensity" ? figure(value) : plain(value)} ${unit}` : (one.reason ? reasonText(one.reason, {}) : "unknown");
    const share = one.measured_share;
    return [
      String(one.revision),
      words,
      one.quality ? (QUALITIES[one.quality]?.[1] ?? one.quality) : "",
      share === null || share === undefined ? "" : percent(share),
      this.moment(one.reported),
      causeText(one.cause),
    ];
  }

  moment(instant) {
    const ms = Date.parse(instant);
    return `${clock(ms, this.zone, "date")}, ${clock(ms, this.zone, "second")}`;
  }
}

const COLUMNS = [["Revision", "number"], ["Figure", "number"], ["Quality", ""], ["Measured", "number"], ["Reported", "nowrap"], ["Because", ""]];
