// What fires, what changed, what was not taken, and whether the books balance.

import { fill, h, icon } from "./dom.js";
import { ago, figure, moment, plain, whole, zoneName } from "./format.js";
import { intensityTitle, intensityUnit, rejectionText, windowName } from "./words.js";

const SEVERITIES = { critical: "bad", error: "bad", warning: "warn", info: "info" };

/** A rule with what it watches, from the site. */
function ruleOf(site, row) {
  const rule = site.alerts.find((a) => a.id === row.id && a.scope === row.scope);
  const watched = rule && site.intensities.find((i) => i.id === rule.when && i.scope === rule.scope);
  return { rule, watched, unit: watched ? intensityUnit(watched) : "" };
}

function subject(site, row) {
  const { rule, watched } = ruleOf(site, row);
  if (!rule) return row.id;
  return `${watched ? intensityTitle(watched) : rule.when}, ${windowName(rule.window)}`;
}

function placeOf(site, scope) {
  return site.places.get(scope) ?? { name: scope, time_zone: "UTC" };
}

/** The strip at the top: each alert that fires now, or that none does. */
export function showFiring(element, site, overview, now) {
  const rows = overview.alerts.firing;
  element.dataset.level = rows.length ? "bad" : "good";
  if (!site.alerts.length) return fill(element);
  if (!rows.length) return fill(element, h("p", { class: "calm" }, icon("check"), h("span", {}, "No alert fires")));
  fill(element, rows.map((row) => firing(site, row, now)));
}

function firing(site, row, now) {
  const { rule, unit } = ruleOf(site, row);
  const place = placeOf(site, row.scope);
  const at = Date.parse(row.at);
  const direction = rule?.direction ?? "beyond";
  return h(
    "div",
    { class: "alarm", "data-level": SEVERITIES[rule?.severity] ?? "warn", "data-alert": row.id },
    icon("bell"),
    h(
      "p",
      {},
      h("strong", {}, place.name),
      ` ${subject(site, row)}: `,
      h("span", { class: "nowrap" }, h("b", {}, figure(row.value)), ` ${unit}, ${direction} ${plain(row.threshold)}`),
    ),
    h("p", { class: "quiet" }, `${rule?.severity ?? "alert"} since ${moment(at, place.time_zone, now)}, ${ago(now - at)} · ${zoneName(place.time_zone, at)}`),
  );
}

const CHANGES = {
  firing: ["bell", "bad", "fires"],
  ok: ["check", "good", "clear again"],
  withdrawn: ["undo", "info", "withdrawn: corrected readings show it never was"],
};

/** The last changes of alerts, newest first. */
export function showChanges(element, site, overview, now) {
  const rows = overview.alerts.changes;
  if (!rows.length) return fill(element, h("p", { class: "quiet" }, site.alerts.length ? "No alert has fired yet." : "The site file has no alerts."));
  fill(element, h("ol", { class: "log" }, rows.map((row) => change(site, row, now))));
}

function change(site, row, now) {
  const [sign, level, words] = CHANGES[row.to] ?? ["none", "none", row.to];
  const place = placeOf(site, row.scope);
  const { unit } = ruleOf(site, row);
  const at = Date.parse(row.at);
  return h(
    "li",
    { "data-level": level },
    icon(sign),
    h(
      "div",
      {},
      h("p", {}, h("strong", {}, place.name), ` ${subject(site, row)} `, h("b", { class: "state" }, words)),
      h("p", { class: "quiet" }, time(at, place.time_zone, now), row.value === null ? null : ` at ${figure(row.value)} ${unit}`, row.threshold === null ? null : `, threshold ${plain(row.threshold)}`),
    ),
  );
}

function time(at, zone, now) {
  return h("time", { datetime: new Date(at).toISOString(), title: `${new Date(at).toISOString()} · ${zoneName(zone, at)}` }, moment(at, zone, now));
}

/** Messages and readings not taken, newest first, with why. Their times are in the first plant's zone. */
export function showRejected(element, site, overview, now) {
  const rows = overview.rejected;
  if (!rows.length) return fill(element, h("p", { class: "quiet calm" }, icon("check"), h("span", {}, "Every message was taken.")));
  const zone = site.zone;
  fill(
    element,
    h("p", { class: "quiet" }, `Newest first, times in ${zoneName(zone, now)}. `, h("a", { href: "/api/export/rejected?format=csv", download: "rejected.csv" }, "All as CSV")),
    h("ol", { class: "log" }, rows.map((row) => rejection(row, zone, now))),
  );
}

function rejection(row, zone, now) {
  const where = [row.topic, row.point].filter(Boolean).join(" · ");
  return h(
    "li",
    { "data-level": "warn" },
    icon("cross"),
    h(
      "div",
      {},
      h("p", {}, h("strong", {}, rejectionText(row.reason)), row.detail ? `: ${row.detail}` : null),
      h("p", { class: "quiet" }, time(Date.parse(row.received), zone, now), ` on ${where || "no topic"}`),
      row.payload ? h("code", { class: "payload", title: "the beginning of the message" }, row.payload) : null,
    ),
  );
}

/** Sums of a hop over its plants; the balance is worked out here again, not taken on trust. */
function hopSums(rows) {
  const hops = new Map();
  for (const row of rows) {
    const sums = hops.get(row.hop) ?? { received: 0, accepted: 0, duplicate: 0, rejected: 0 };
    for (const name of Object.keys(sums)) sums[name] += Number(row[name] ?? 0);
    hops.set(row.hop, sums);
  }
  return hops;
}

/** "received = accepted + duplicate + rejected" with its verdict, and the ledger's. */
export function showBooks(element, site, overview) {
  const { hops, installations, unbalanced } = overview.books;
  const lines = [...hopSums(hops)].map(([name, sums]) => hopLine(name, sums));
  const right = unbalanced.length === 0;
  const ledger = h(
    "p",
    { class: "book", "data-level": right ? "good" : "bad", "data-book": "ledger" },
    icon(right ? "check" : "cross"),
    h("span", {}, h("b", {}, "Ledger "), right ? `${whole(installations)} meter installations, all balanced` : `not balanced: ${unbalanced.join(", ")}`),
  );
  const about = h(
    "p",
    { class: "quiet about" },
    `meterflow ${site.version}${site.policy.id ? ` · policy ${site.policy.id} ${site.policy.edition}` : ""} · site ${site.roster.slice(0, 8)} · `,
    h("a", { href: "/metrics" }, "metrics"),
  );
  fill(element, lines, installations ? ledger : null, about);
}

function hopLine(name, { received, accepted, duplicate, rejected }) {
  const right = received === accepted + duplicate + rejected;
  const formula = `${whole(received)} received ${right ? "=" : "≠"} ${whole(accepted)} accepted + ${whole(duplicate)} duplicate + ${whole(rejected)} rejected`;
  return h(
    "p",
    { class: "book", "data-level": right ? "good" : "bad", "data-book": name },
    icon(right ? "check" : "cross"),
    h("span", {}, h("b", {}, `${name[0].toUpperCase()}${name.slice(1)} `), formula),
  );
}

/** What is wrong with the service itself. */
export function showReadiness(element, overview, faults) {
  const notices = [...faults, ...overview.ready.reasons];
  fill(element, notices.map((text) => h("p", { class: "notice bad" }, icon("warn"), h("span", {}, text))));
}
