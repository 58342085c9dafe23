// Register events that wait for a person: what is known of each, what can be said of it, and who says it.

import { fill, h, icon } from "./dom.js";
import { get, post } from "./feed.js";
import { moment, zoneName } from "./format.js";
import { verdictText } from "./words.js";

function remembered() {
  try {
    return localStorage.getItem("name") ?? "";
  } catch {
    return "";
  }
}

function remember(name) {
  try {
    localStorage.setItem("name", name);
  } catch {
    // Storage is switched off: the name lasts until the page is closed.
  }
}

export class Doubts {
  constructor(element, context) {
    this.element = element;
    this.context = context;
    this.rows = new Map();
    this.name = h("input", { id: "decider", maxlength: "200", autocomplete: "name", value: remembered() });
    this.held = h("ol", { class: "log doubts" });
    this.settled = h("ol", { class: "log doubts" });
    this.note = h("p", { class: "quiet" });
    this.limits = h("ul", { class: "quiet" });
    this.who = h("p", { class: "decider" }, h("label", { for: "decider" }, "Your name "), this.name);
    this.past = h("details", {}, h("summary", {}, "Decided by people"), this.settled);
    element.append(h("h2", { id: "doubts-title" }, "Waiting for a decision"), this.note, this.limits, this.who, this.held, this.past);
  }

  /** Asks what waits; what cannot be had now is asked for again with the next news. */
  async refresh() {
    try {
      this.answer = await get("/api/doubts");
    } catch {
      return;
    }
    this.show();
  }

  show() {
    const { answer, context } = this;
    if (!answer || !context.site()) return;
    const { held, settled, may, more, hint, limits } = answer;
    this.element.hidden = this.away || !(held.length || settled.length);
    this.who.hidden = !may;
    this.past.hidden = !settled.length;
    const count = held.length ? `${held.length}${more ? " and more" : ""} held: not counted until decided. Amounts are as the meter shows them, before its multiplier.` : "Nothing waits.";
    fill(this.note, count, may ? null : ` Decisions are not taken on this page: ${hint}.`);
    this.limits.hidden = !limits.length;
    fill(this.limits, ...limits.map((words) => h("li", {}, words)));
    const known = new Set([...held, ...settled].map((row) => row.id));
    for (const id of this.rows.keys()) if (!known.has(id)) this.rows.delete(id);
    this.place(this.held, held);
    this.place(this.settled, settled);
  }

  /** An event that says the same as before keeps its element, with whatever was chosen in it. */
  place(list, rows) {
    const items = rows.map((row) => {
      const said = JSON.stringify([row, this.answer.may]);
      if (this.rows.get(row.id)?.said !== said) this.rows.set(row.id, { said, element: this.item(row) });
      return this.rows.get(row.id).element;
    });
    if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) list.replaceChildren(...items);
  }

  item(row) {
    const plant = this.context.site().places.get(`plant:${row.plant}`) ?? { name: row.plant, time_zone: "UTC" };
    const zone = plant.time_zone;
    const at = (ms) => h("time", { datetime: new Date(ms).toISOString(), title: new Date(ms).toISOString() }, moment(ms, zone, this.context.now()));
    const held = row.status === "held";
    return h(
      "li",
      { "data-level": held ? "warn" : "info", "data-doubt": row.id },
      icon(held ? "warn" : "check"),
      h(
        "div",
        {},
        h("p", {}, h("strong", {}, plant.name), ` ${row.point}${row.serial ? ` (${row.serial})` : ""}: `, h("b", { class: "state" }, `${verdictText(row.verdict)}, ${held ? "held" : `${row.status} by ${row.by}`}`)),
        h("p", { class: "quiet" }, at(row.from_ms), ...(row.from_ms === row.to_ms ? [] : [" – ", at(row.to_ms)]), ` · ${zoneName(zone, row.to_ms)}`),
        row.seen && !(held && this.answer.may && row.evidence.starts) ? h("p", { class: "quiet" }, row.seen) : null,
        this.answer.may ? this.choices(row) : null,
      ),
    );
  }

  /** Confirm, refuse, or another word; of a conflict the value that counts. */
  choices(row) {
    const message = h("p", { class: "answer", role: "status" });
    const effect = new Map(row.choices.map((choice) => [choice.verdict, choice.effect]));
    const value = row.verdict === "conflict" ? h("input", { inputmode: "decimal", "aria-label": "The value that counts" }) : null;
    const decide = (verdict) => this.decide(row, verdict, value?.value.trim() ?? "", message);
    const { values = [], starts = [] } = value ? row.evidence : {};
    const named = values.map((text, i) =>
      h("button", { type: "button", class: "plain", onclick: () => this.decide(row, row.verdict, text.split(" ")[0], message, starts[i]) }, `${text}${starts[i] ? ` from ${this.clock(row, starts[i])}` : ""}`),
    );
    const button = (words, verdict) =>
      h("p", { class: "choose" }, h("button", { type: "button", class: "plain", onclick: () => decide(verdict) }, words), h("span", { class: "quiet" }, effect.get(verdict)));
    const others = row.choices.filter(({ verdict }) => verdict !== row.own && verdict !== row.refusal);
    const other = h("select", { "aria-label": "What it was" }, others.map(({ verdict }) => h("option", { value: verdict }, `${verdictText(verdict)}: ${effect.get(verdict)}`)));
    if (!row.choices.length) return h("p", { class: "quiet" }, "Settled by readings of a higher revision or by the site file, not by a decision.");
    return h(
      "div",
      { class: "choices" },
      named.length ? h("p", { class: "choose" }, "This one counts: ", named) : null,
      value ? h("p", {}, named.length ? "Another value " : "The value that counts ", value) : null,
      row.own && row.own !== row.refusal ? button("Confirm", row.own) : null,
      effect.has(row.refusal) ? button("Refuse", row.refusal) : null,
      others.length ? h("p", { class: "choose" }, other, h("button", { type: "button", class: "plain", onclick: () => decide(other.value) }, "Say so")) : null,
      message,
    );
  }

  /** A start as the plant's clocks show it. */
  clock(row, start) {
    const zone = this.context.site().places.get(`plant:${row.plant}`)?.time_zone ?? "UTC";
    return moment(Date.parse(start), zone, this.context.now());
  }

  async decide(row, verdict, value, message, start) {
    const by = this.name.value.trim();
    const say = (level, text) => {
      message.dataset.level = level;
      fill(message, text);
    };
    if (!by) {
      this.name.focus();
      return say("bad", "Give your name first: it stands beside the decision.");
    }
    if (verdict === "conflict" && !value) return say("bad", "Name the value that counts.");
    remember(by);
    const from = verdict !== "conflict" ? row.from_ms : start ? Date.parse(start) : row.to_ms;
    const decision = { plant: row.plant, point: row.point, from, to: row.to_ms, verdict, by, revision: row.revision };
    if (row.serial) decision.serial = row.serial;
    if (value) decision.value = value;
    say("none", "Sending…");
    try {
      await post("/api/decisions", decision);
      say("good", `Taken: ${verdictText(verdict)}. The figures follow.`);
    } catch (error) {
      say("bad", `Not taken: ${error.message}`);
    }
  }
}
