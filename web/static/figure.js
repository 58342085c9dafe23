// A plant's card: each of its intensities as a large figure, against its target, with its history.

import { fill, h, icon } from "./dom.js";
import { ago, clock, figure, moment, percent, plain, zoneName } from "./format.js";
import { History } from "./history.js";
import { kind, summary } from "./series.js";
import { coversText, intensityTitle, intensityUnit, isCalendar, nearestWindow, reasonText, unitName, windowName } from "./words.js";

const DAY_MS = 86_400_000;
/** How many days back the chart of calendar windows goes, and how long they are at most. */
const CALENDAR_DAYS = { day: [31, 1], month: [730, 31], year: [3650, 366] };

/** How a figure stands to its target, which is what it is to be at most: [class, icon, words]. */
export function standing(value, target, unit) {
  if (target === null || target === undefined) return ["none", null, "no target set"];
  const words = `${plain(target)} ${unit}`;
  if (value === null || value === undefined) return ["none", null, `target ${words}`];
  const share = target === 0 ? null : (value - target) / Math.abs(target);
  if (value === target) return ["good", "check", `on target ${words}`];
  const distance = share === null ? `${figure(Math.abs(value - target))} ${unit}` : percent(share);
  return value > target ? ["bad", "up", `${distance} above target ${words}`] : ["good", "check", `${distance} below target ${words}`];
}

/** "1 h to 14:31" for rolling windows; "November 2026" style spans by their first and last day. */
export function spanText(row, zone, now) {
  const [start, end] = [Date.parse(row.start), Date.parse(row.end)];
  if (!isCalendar(row.window)) return `${windowName(row.window)} to ${moment(end, zone, now)}`;
  if (row.window === "day") return clock(start, zone, "date");
  return `${clock(start, zone, "date")} to ${clock(end - 1, zone, "date")}`;
}

/** One intensity of one product. `context` has zone(), now(), hours(), horizon(), window(), target(). */
export class Figure {
  constructor(intensity, product, context) {
    this.intensity = intensity;
    this.product = product;
    this.context = context;
    this.parts = Object.fromEntries(
      ["value", "target", "notes", "when"].map((name) => [name, h("div", { class: name })]),
    );
    this.host = h("div", { class: "chart", tabindex: "0", role: "img" });
    const title = intensityTitle(intensity, product);
    this.element = h(
      "section",
      { class: "figure", "data-of": intensity.of, "data-id": intensity.id, "data-unit": intensity.unit, "aria-label": title },
      h("h3", { title: intensity.id }, title),
      this.parts.value,
      h("div", { class: "head" }, this.parts.target, this.parts.notes),
      this.host,
      this.parts.when,
    );
    this.history = new History(this.host, () => this.view(), {
      onPoint: (point) => this.read(point),
      onData: (points) => this.describe(points),
      onFault: (fault) => this.host.toggleAttribute("data-fault", Boolean(fault)),
    });
  }

  /** The span on show. Calendar windows are long: their chart goes back so far that several fit. */
  view() {
    const { context } = this;
    const to = context.horizon();
    const [days, step] = CALENDAR_DAYS[this.window] ?? [];
    const from = to - (days ? days * DAY_MS : context.hours() * 3_600_000);
    return { from, to, zone: context.zone(), target: this.target ?? null, step: step && step * DAY_MS, bars: Boolean(step) };
  }

  /** `windows`: complete and open rows by window, as the overview has them. */
  update(windows) {
    this.window = nearestWindow(this.context.window(), this.intensity.windows);
    const mine = (rows) => (rows ?? []).find((row) => (row.product ?? "") === this.product);
    const row = mine(windows?.[this.window]?.complete);
    const open = mine(windows?.[this.window]?.open);
    this.target = row?.target ?? open?.target ?? this.context.target(this.intensity) ?? null;
    this.unit = row?.unit ? unitName(row.unit) : intensityUnit(this.intensity);
    this.row = row;
    this.show(row, open);
    this.history.ask({
      scope: this.intensity.scope,
      id: this.intensity.id,
      window: this.window,
      product: this.product || null,
    });
    this.history.refresh();
  }

  show(row, open) {
    const known = row && row.value !== null;
    this.element.dataset.state = known ? "known" : "none";
    fill(
      this.parts.value,
      h("span", { class: "number" }, known ? figure(row.value) : "–"),
      h("span", { class: "unit" }, this.unit),
    );
    const [level, sign, words] = standing(known ? row.value : null, this.target, this.unit);
    this.parts.target.dataset.level = level;
    fill(this.parts.target, sign && icon(sign), h("span", {}, words));
    fill(this.parts.notes, this.notes(row, open));
    this.open = open;
    if (!this.reading) fill(this.parts.when, this.when(row, open));
  }

  notes(row, open) {
    const found = [];
    const note = (level, sign, text) => found.push(h("span", { class: "note", "data-level": level }, icon(sign), text));
    if (!row) note("none", "none", `No figure yet${open ? ": the first window is still filling" : ""}`);
    else if (row.value === null) note("none", "none", `No figure: ${reasonText(row.reason, this.intensity)}`);
    else {
      const share = row.measured_share;
      if (share === null || share === undefined) note("warn", "warn", "measured share unknown");
      else if (share < 1) note("warn", "warn", `${percent(1 - share)} estimated`);
      if (row.state === "revised") note("info", "undo", `revised${row.cause ? ` (${row.cause.replaceAll("_", " ")})` : ""}`);
    }
    const covers = coversText(row ?? open, this.intensity);
    if (covers) note("info", "check", covers);
    return found;
  }

  when(row, open) {
    const { zone, now } = { zone: this.context.zone(), now: this.context.now() };
    const parts = [];
    if (row) {
      const age = now - Date.parse(row.end);
      parts.push(h("span", {}, spanText(row, zone, now), age > 600_000 && !isCalendar(row.window) ? ` · ${ago(age)}` : ""));
    }
    if (open && (!row || open.end > row.end)) {
      parts.push(h("span", { class: "filling" }, icon("clock"), `still filling: ${spanText(open, zone, now)}`));
    }
    return parts;
  }

  describe(points) {
    const text = summary(points, this.unit, figure);
    const hours = `${windowName(this.window)} windows, last ${this.context.hours()} hours`;
    this.host.setAttribute("aria-label", `${this.element.getAttribute("aria-label")}, ${hours}. ${text}`);
    this.host.toggleAttribute("data-empty", !points.some((point) => point.value !== null));
  }

  /** The point under the cursor in words, in the place of the window's own time. */
  read(point) {
    this.reading = Boolean(point);
    if (!point) return fill(this.parts.when, this.when(this.row, this.open));
    const { zone, now } = { zone: this.context.zone(), now: this.context.now() };
    const at = h("b", {}, moment(point.end, zone, now));
    if (point.value === null) {
      const why = point.state === "o" ? "open" : point.reason;
      const reason = why === "absent" ? "no window was computed" : reasonText(why, this.intensity);
      return fill(this.parts.when, h("span", {}, at, ` no figure: ${reason}`));
    }
    const sure = { m: "measured", e: point.share === null ? "share unknown" : `${percent(1 - point.share)} estimated`, o: "still filling" }[kind(point)];
    return fill(this.parts.when, h("span", {}, at, ` ${figure(point.value)} ${this.unit}, ${sure}`));
  }

  destroy() {
    this.history.destroy();
  }
}

/** A card of a plant or a group. */
export class Card {
  constructor(place, context) {
    this.place = place;
    this.context = { ...context, zone: () => place.time_zone };
    this.figures = new Map();
    this.seen = h("p", { class: "seen" });
    this.grid = h("div", { class: "figures" });
    const name = place.name || place.id;
    const title = place.points ? h("a", { href: `#/plant/${encodeURIComponent(place.id)}` }, name) : name;
    this.element = h(
      "article",
      { class: "card", "data-scope": place.scope },
      h("header", {}, h("h2", {}, title, place.kind ? h("small", {}, ` ${place.kind.replaceAll("_", " ")}`) : null), this.seen),
      this.grid,
    );
  }

  /** `part`: the scope's entry of the overview; `seen`: when its points were last heard of, in ms. */
  update(part, intensities, seen) {
    const shown = new Set();
    for (const intensity of intensities) {
      const windows = part?.figures.find((f) => f.id === intensity.id)?.windows ?? {};
      for (const product of products(windows, intensity)) {
        const one = this.figure(intensity, product);
        one.update(windows);
        shown.add(one);
      }
    }
    this.forget(shown);
    if (!intensities.length) fill(this.grid, h("p", { class: "quiet" }, "The site file names no intensity here."));
    this.showSeen(seen);
  }

  figure(intensity, product) {
    const key = `${intensity.id}\u0000${product}`;
    if (!this.figures.has(key)) {
      const fresh = new Figure(intensity, product, this.context);
      this.figures.set(key, fresh);
      this.grid.append(fresh.element);
    }
    return this.figures.get(key);
  }

  forget(shown) {
    for (const [key, one] of this.figures) {
      if (shown.has(one)) continue;
      one.destroy();
      one.element.remove();
      this.figures.delete(key);
    }
  }

  showSeen(seen) {
    const { zone, now } = { zone: this.place.time_zone, now: this.context.now() };
    const age = now - seen;
    const stale = seen !== null && age > 600_000;
    const text = seen === null ? "not heard of yet" : `last reading ${moment(seen, zone, now)}, ${ago(age)}`;
    this.seen.dataset.level = stale || seen === null ? "warn" : "good";
    const points = this.place.points ? [icon(stale || seen === null ? "warn" : "check"), h("span", {}, text)] : [];
    fill(this.seen, points, h("span", { class: "zone" }, zoneName(zone, now)));
  }
}

/** The products there are rows for, or the one the site file names. */
function products(windows, intensity) {
  const rows = Object.values(windows).flatMap((w) => [...w.complete, ...w.open]);
  const found = new Set(rows.map((row) => row.product ?? ""));
  return found.size ? [...found].sort() : [intensity.product ?? ""];
}
