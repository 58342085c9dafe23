// One plant: every window of every intensity, its points, and what it used by hour and today.

import { fill, h, icon, table } from "./dom.js";
import { barChart } from "./history.js";
import { get } from "./feed.js";
import { ago, clock, duration, fieldIn, figure, instantIn, moment, percent, plain, sameDay, zoneName } from "./format.js";
import { spanText, standing } from "./figure.js";
import { stateOf } from "./revisions.js";
import { intensityTitle, intensityUnit, measureName, QUALITIES, reasonText, unitName, windowName } from "./words.js";

export class Detail {
  constructor(element, context) {
    this.element = element;
    this.context = context;
    this.parts = Object.fromEntries(["windows", "bars", "days", "points"].map((name) => [name, h("div", { class: name })]));
    this.readout = h("p", { class: "readout" });
    this.measures = h("fieldset", { class: "choice" }, h("legend", {}, "Amount"));
    this.chart = h("div", { class: "chart tall", role: "img" });
    this.parts.bars.append(this.measures, this.chart, this.readout);
  }

  /** Shows a plant; fetches what the overview does not have. */
  async open(plant) {
    if (this.plant?.id !== plant.id) {
      this.plant = plant;
      this.answer = null;
      this.measure = null;
      this.asOf = null;
      this.frame();
    }
    this.update();
    await this.refresh();
  }

  close() {
    this.plant = null;
    this.clearBars();
    fill(this.element);
  }

  clearBars() {
    this.bars?.destroy();
    this.bars = this.drawn = null;
    fill(this.chart);
  }

  /** Nothing of another instant stays on the screen while an answer is awaited. */
  clear() {
    this.clearBars();
    fill(this.readout);
    fill(this.measures);
    fill(this.parts.days);
  }

  frame() {
    const { plant, parts } = this;
    this.heading = h("h2", { tabindex: "-1" }, plant.name);
    const panel = (title, part, note) => h("section", { class: "panel wide" }, h("h3", {}, title), note ? h("p", { class: "quiet" }, note) : null, part);
    this.element.replaceChildren(
      h("p", {}, h("a", { href: "#/", class: "back" }, "← All plants")),
      h("header", { class: "plant-head" }, this.heading, h("p", { class: "quiet" }, `${plant.id} · times in ${zoneName(plant.time_zone, this.context.now())}${plant.energies.length ? ` · uses ${plant.energies.map((e) => e.replaceAll("_", " ")).join(", ")}` : ""}`)),
      this.asOfForm(),
      panel("Newest complete windows", parts.windows),
      panel("By hour, last 24 hours", parts.bars, "Filled bars are measured, outlined ones are still filling or partly estimated; hatched hours are unknown."),
      panel("By day", parts.days),
      panel("Metering points", parts.points),
    );
    this.heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  /** Lets a reader see the plant as it was reported at an instant, by the plant's clocks. */
  asOfForm() {
    const { plant } = this;
    const field = h("input", { type: "datetime-local", id: "as-of", step: "1", required: true, max: fieldIn(this.context.now(), plant.time_zone) });
    this.asOfNote = h("p", { class: "quiet", role: "status" });
    const back = h("button", { type: "button", class: "plain" }, "As it stands now");
    const set = (asOf) => {
      this.asOf = asOf;
      this.answer = this.fault = null;
      back.hidden = asOf === null;
      this.update();
      this.refresh();
    };
    back.hidden = true;
    back.onclick = () => set(null);
    const form = h("form", { class: "as-of" }, h("label", { for: "as-of" }, "As it was reported at"), field, h("button", { class: "plain" }, "Show"), back);
    form.onsubmit = (event) => {
      event.preventDefault();
      set(new Date(instantIn(field.value.length === 16 ? `${field.value}:00` : field.value, plant.time_zone)).toISOString());
    };
    return h("section", { class: "panel wide" }, form, this.asOfNote);
  }

  async refresh() {
    const { plant, asOf } = this;
    if (!plant || this.busy) return;
    this.busy = true;
    try {
      const answer = await get(`/api/plant/${encodeURIComponent(plant.id)}`, { as_of: asOf });
      if (this.plant === plant && this.asOf === asOf) [this.answer, this.fault] = [answer, null];
    } catch (fault) {
      this.fault = fault;
    } finally {
      this.busy = false;
    }
    if (this.plant && (this.plant !== plant || this.asOf !== asOf)) return this.refresh();
    this.update();
  }

  update() {
    const { plant } = this;
    if (!plant) return;
    const at = this.asOf && Date.parse(this.asOf);
    fill(this.asOfNote, at ? `What follows was reported by ${clock(at, plant.time_zone, "date")}, ${clock(at, plant.time_zone, "second")}; what was still filling then is left out.` : "");
    this.showWindows();
    if (!this.answer) this.clear();
    if (!this.answer) return fill(this.parts.points, h("p", { class: "quiet" }, this.fault ? `Not to be had now: ${this.fault.message}` : "Loading…"));
    this.showPoints();
    this.showDays();
    this.showMeasures();
  }

  showWindows() {
    const { plant, context } = this;
    const rows = [];
    for (const intensity of context.intensities(plant.scope)) {
      const windows = context.part(plant.scope)?.figures.find((f) => f.id === intensity.id)?.windows ?? {};
      for (const window of intensity.windows) {
        const found = this.asOf ? (this.answer?.windows ?? []).filter((row) => row.id === intensity.id && row.window === window) : (windows[window]?.complete ?? []);
        for (const row of found.length ? found : [null]) rows.push(this.windowRow(intensity, window, row));
      }
    }
    const columns = [["Intensity", ""], ["Window", "nowrap"], ["Figure", "number"], ["Target", ""], ["Used", "number"], ["Made", "number"], ["State", ""]];
    fill(this.parts.windows, table("Newest complete windows", columns, rows));
  }

  windowRow(intensity, window, row) {
    const title = intensityTitle(intensity, row?.product);
    if (!row) return [title, windowName(window), "–", "", "", "", "no figure yet"];
    const unit = unitName(row.unit) || intensityUnit(intensity);
    const [level, sign, words] = standing(row.value, row.target, unit);
    const share = row.measured_share;
    const why = row.value === null ? `no figure: ${reasonText(row.reason, intensity)}` : "";
    const state = [why, row.value !== null && share !== null && share < 1 ? `${percent(1 - share)} estimated` : ""];
    return [
      title,
      spanText(row, this.plant.time_zone, this.context.now()),
      row.value === null ? "–" : `${figure(row.value)} ${unit}`,
      h("span", { class: "verdict", "data-level": level }, sign ? icon(sign) : null, words),
      row.numerator === null ? "–" : `${plain(row.numerator)} ${unitName(intensity.unit)}`,
      row.denominator === null ? "–" : `${plain(row.denominator)} ${unitName(intensity.per_unit)}`,
      [stateOf("intensity", row, title, this.plant.time_zone, this.asOf), ...state.filter(Boolean).map((text) => `, ${text}`)],
    ];
  }

  showPoints() {
    const now = this.context.now();
    const rows = this.plant.points.map((point) => {
      const found = this.answer.points.find((p) => p.point === point.id) ?? {};
      const last = found.interval;
      const seen = Date.parse(this.context.seen(`${this.plant.id}/${point.id}`) ?? found.seen ?? last?.end ?? "");
      const late = Number.isFinite(seen) && point.expect_ms > 0 && now - seen > Math.max(3 * point.expect_ms, 120_000);
      const [sign, words] = last ? (QUALITIES[last.quality] ?? ["none", last.quality]) : ["none", "nothing yet"];
      const made = point.product ? `${measureName(point.measures)}: ${point.product}` : measureName(point.measures);
      return [
        point.id,
        `${made}${point.line ? `, line ${point.line}` : ""}`,
        point.role.replaceAll("_", " "),
        last ? `${plain(last.amount, 6)} ${unitName(last.unit)}` : "–",
        last ? this.spanOf(last, now) : "–",
        h("span", { class: "verdict", "data-level": sign === "check" ? "good" : sign }, icon(sign), words),
        h("span", { class: "verdict", "data-level": late ? "warn" : "none" }, late ? icon("warn") : null, Number.isFinite(seen) ? `${moment(seen, this.plant.time_zone, now)}, ${ago(now - seen)}` : "not yet"),
        point.expect_ms ? duration(point.expect_ms) : "–",
      ];
    });
    const columns = [["Point", ""], ["Measures", ""], ["Role", ""], ["Last amount", "number"], ["Between", ""], ["Quality", ""], ["Last seen", ""], ["Expected every", ""]];
    fill(this.parts.points, table("Metering points", columns, rows));
  }

  spanOf(row, now) {
    const zone = this.plant.time_zone;
    return `${moment(Date.parse(row.start), zone, now)} – ${moment(Date.parse(row.end), zone, now)}`;
  }

  showDays() {
    const zone = this.plant.time_zone;
    const now = this.context.now();
    const newestFirst = (a, b) => Date.parse(b.start) - Date.parse(a.start) || a.measures.localeCompare(b.measures);
    const rows = [...this.answer.days].sort(newestFirst).map((row) => {
      const start = Date.parse(row.start);
      const [sign, words] = QUALITIES[row.quality] ?? ["none", row.quality ?? ""];
      const share = row.measured_share;
      return [
        `${clock(start, zone, "date")}${sameDay(start, now, zone) ? ", today" : ""}`,
        measureName(row.measures) + (row.product ? `: ${row.product}` : ""),
        row.amount === null ? "–" : `${plain(row.amount)} ${unitName(row.unit)}`,
        row.kgce === null ? "" : `${plain(row.kgce)} kgce`,
        row.kgco2e === null ? "" : `${plain(row.kgco2e)} kgCO₂e`,
        h("span", { class: "verdict", "data-level": sign === "check" ? "good" : sign }, icon(sign), words + (share !== null && share < 1 ? `, ${percent(share)} measured` : "")),
        stateOf("rollup", row, measureName(row.measures) + (row.product ? `: ${row.product}` : ""), zone, this.asOf),
      ];
    });
    const columns = [["Day", ""], ["Amount of", ""], ["Amount", "number"], ["Standard coal", "number"], ["CO₂", "number"], ["Quality", ""], ["State", ""]];
    fill(this.parts.days, rows.length ? table("By day", columns, rows) : h("p", { class: "quiet" }, "No day has begun yet."));
  }

  /** One choice for each thing the plant has hours of. */
  showMeasures() {
    const keys = [...new Set(this.answer.hours.map((row) => JSON.stringify([row.measures, row.product ?? ""])))].sort();
    if (!keys.includes(this.measure)) this.measure = keys.find((key) => key.includes("electricity")) ?? keys[0];
    const buttons = keys.map((key) => {
      const [measures, product] = JSON.parse(key);
      return h("button", { type: "button", "aria-pressed": String(key === this.measure), "data-measure": key }, measureName(measures) + (product ? `: ${product}` : ""));
    });
    fill(this.measures, h("legend", {}, "Amount"), buttons);
    this.measures.onclick = (event) => {
      const key = event.target.closest("button")?.dataset.measure;
      if (!key) return;
      this.measure = key;
      this.showMeasures();
    };
    this.drawBars();
  }

  /** Hours without a row are unknown, not zero: they become empty bars with a hatch. */
  hours() {
    const rows = this.answer.hours.filter((row) => JSON.stringify([row.measures, row.product ?? ""]) === this.measure);
    const last = Math.max(...this.answer.hours.map((row) => Date.parse(row.end)));
    const bars = new Map(rows.map((row) => [Date.parse(row.start), row]));
    return Array.from({ length: 24 }, (_, i) => {
      const start = last - (24 - i) * 3_600_000;
      const row = bars.get(start);
      const known = row && row.amount !== null && row.quality !== "missing";
      const sure = known && row.state !== "open" && row.quality === "valid" && (row.measured_share ?? 0) >= 1;
      return { start, end: start + 3_600_000, value: known ? Number(row.amount) : null, sure, row };
    });
  }

  async drawBars() {
    if (!this.measure) {
      this.clearBars();
      return fill(this.readout, "No hour has begun yet.");
    }
    const bars = this.hours();
    const zone = this.plant.time_zone;
    const unit = unitName(bars.filter((b) => b.row).at(-1)?.row.unit ?? "");
    this.chart.dataset.of = JSON.parse(this.measure)[0];
    this.chart.setAttribute("aria-label", `By hour, ${unit}: ${bars.map((b) => `${clock(b.start, zone)} ${b.value === null ? "unknown" : figure(b.value)}`).join(", ")}`);
    const view = { zone, from: bars[0].start, to: bars.at(-1).end };
    const key = JSON.stringify([bars, view, document.documentElement.dataset.theme, this.chart.clientWidth]);
    if (key === this.drawn && this.bars) return;
    this.drawn = key;
    const { answer } = this;
    const Bars = await barChart();
    if (!this.plant || this.answer !== answer) return;
    this.bars ??= new Bars(this.chart, (bar) => this.readBar(bar, unit));
    this.bars.onBar = (bar) => this.readBar(bar, unit);
    this.bars.show(bars, view);
    this.readBar(null, unit);
  }

  readBar(bar, unit) {
    if (!bar) return fill(this.readout, `${unit} in each hour`);
    const zone = this.plant.time_zone;
    const state = !bar.row ? "" : bar.row.state === "open" ? ", still filling" : bar.sure ? ", measured" : `, ${QUALITIES[bar.row.quality]?.[1] ?? ""}`;
    fill(this.readout, h("b", {}, `${clock(bar.start, zone)} – ${clock(bar.end, zone)}`), bar.value === null ? " unknown" : ` ${plain(bar.value)} ${unit}${state}`);
  }

  renew() {
    this.drawn = null;
    if (this.answer) this.drawBars();
  }
}
