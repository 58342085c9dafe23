// The page: asks for the site, listens to the feed, and keeps everything on it up to date.

import { fill, h, icon } from "./dom.js";
import { Detail } from "./detail.js";
import { Doubts } from "./doubts.js";
import { Feed, get } from "./feed.js";
import { Card } from "./figure.js";
import { showBooks, showChanges, showFiring, showReadiness, showRejected } from "./lists.js";
import { WINDOWS } from "./words.js";

const REFRESH_EVERY_MS = 1_500;
const LIVE_WITHIN_MS = 2 * 3_600_000;
const SPANS = [["6", "6 h"], ["24", "24 h"], ["72", "3 days"]];
const $ = (id) => document.getElementById(id);

const state = {
  site: null,
  overview: null,
  window: remembered("window", "1h", WINDOWS),
  hours: remembered("hours", "24", SPANS),
  skew: 0,
  faults: new Map(),
  cards: new Map(),
  timer: null,
  refreshed: 0,
  verdicts: false,
};

function remembered(name, otherwise, choices) {
  try {
    const value = localStorage.getItem(name);
    return choices.some(([choice]) => choice === value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage is switched off: the choice lasts until the page is closed.
  }
}

/** The service's clock, not this machine's. */
const now = () => Date.now() + state.skew;

/** The right edge of all charts: now, or the newest window's end where the data are of another time. */
function horizon() {
  const newest = Date.parse(state.overview?.horizon ?? "");
  if (!Number.isFinite(newest)) return now();
  return Math.abs(now() - newest) < LIVE_WITHIN_MS ? Math.max(now(), newest) : newest;
}

const context = {
  now,
  horizon,
  window: () => state.window,
  hours: () => Number(state.hours),
  target: (intensity) => state.site.targets.find((t) => t.scope === intensity.scope && t.metric === intensity.id)?.value,
  intensities: (scope) => state.site.intensities.filter((i) => i.scope === scope),
  part: (scope) => state.overview?.scopes.find((s) => s.scope === scope),
  seen: (point) => state.overview?.seen[point] ?? null,
};
const detail = new Detail($("detail"), context);
const doubts = new Doubts($("doubts"), { now, site: () => state.site });

function choice(id, choices, name) {
  const buttons = choices.map(([value, label]) =>
    h("button", { type: "button", "aria-pressed": String(state[name] === value), value }, label),
  );
  $(id).append(...buttons);
  $(id).addEventListener("click", (event) => {
    const value = event.target.closest("button")?.value;
    if (!value) return;
    state[name] = value;
    remember(name, value);
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === value));
    show();
  });
}

const THEMES = { auto: "as the system has them", light: "light", dark: "dark" };

function theme() {
  const button = $("theme");
  const root = document.documentElement;
  const label = () => {
    const chosen = root.dataset.theme ?? "auto";
    fill(button, icon("theme"), ` ${{ auto: "Auto", light: "Light", dark: "Dark" }[chosen]}`);
    button.setAttribute("aria-label", `Colours: ${THEMES[chosen]}`);
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(root.dataset.theme ?? "auto") + 1) % names.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    remember("theme", next);
    label();
    renew();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renew);
  label();
}

/** Canvases do not follow the style sheet by themselves. */
function renew() {
  for (const card of state.cards.values()) for (const figure of card.figures.values()) figure.history.renew();
  detail.renew();
}

function connection(name) {
  const pill = $("connection");
  const texts = { live: "Live", waiting: "Connecting…", lost: "Not connected, trying again" };
  if (pill.dataset.state === name && pill.textContent === texts[name]) return;
  pill.dataset.state = name;
  pill.textContent = texts[name];
}

function fault(key, error) {
  if (error) state.faults.set(key, error);
  else state.faults.delete(key);
  showReadiness($("notices"), state.overview ?? { ready: { reasons: [] } }, [...state.faults.values()]);
}

/** Everything on the screen from what is known now. */
function show() {
  if (!state.site || !state.overview) return;
  showReadiness($("notices"), state.overview, [...state.faults.values()]);
  showFiring($("firing"), state.site, state.overview, now());
  for (const part of state.overview.scopes) {
    const place = state.site.places.get(part.scope);
    if (place) card(place).update(part, context.intensities(part.scope), lastSeen(place));
  }
  showChanges($("changes"), state.site, state.overview, now());
  showRejected($("rejected"), state.site, state.overview, now());
  showBooks($("books"), state.site, state.overview);
  doubts.show();
  detail.update();
}

function card(place) {
  if (!state.cards.has(place.scope)) {
    if (!state.cards.size) fill($("plants"));
    const fresh = new Card(place, context);
    state.cards.set(place.scope, fresh);
    $("plants").append(fresh.element);
  }
  return state.cards.get(place.scope);
}

function lastSeen(place) {
  const times = (place.points ?? []).map((p) => Date.parse(context.seen(`${place.id}/${p.id}`) ?? "")).filter(Number.isFinite);
  return times.length ? Math.max(...times) : null;
}

/** A service started again with another site file or version makes this page an old one. */
function outdated(overview) {
  return state.site && (overview.roster !== state.site.roster || overview.version !== state.site.version);
}

function take(overview) {
  if (outdated(overview)) return location.reload();
  state.overview = overview;
  state.skew = Date.parse(overview.now) - Date.now();
  show();
}

/** Marks the histories that an event may have changed. Without particulars, all of them. */
function expire(changed) {
  const part = changed?.tables?.intensity;
  if (changed?.tables && !part) return;
  for (const [scope, one] of state.cards) {
    if (part?.scopes && !part.scopes.includes(scope)) continue;
    for (const figure of one.figures.values()) figure.history.expire(part?.from ?? -Infinity);
  }
}

/** Asks for the overview soon, at most every so often, and not while nobody looks. */
function soon() {
  if (state.timer || document.hidden) return;
  const wait = Math.max(0, state.refreshed + REFRESH_EVERY_MS - Date.now());
  state.timer = setTimeout(refresh, wait);
}

async function refresh() {
  state.refreshed = Date.now();
  try {
    take(await get("/api/overview"));
    fault("overview", null);
  } catch (error) {
    fault("overview", `The figures cannot be had now: ${error.message}`);
  }
  state.timer = null;
  if (state.verdicts) doubts.refresh();
  state.verdicts = false;
  if (!$("detail").hidden) detail.refresh();
}

/** #/plant/ID shows one plant; so links can be kept and the back button works. */
function route() {
  const id = /^#\/plant\/(.+)$/.exec(location.hash)?.[1];
  const plant = id && state.site?.plants.find((p) => p.id === decodeURIComponent(id));
  $("detail").hidden = !plant;
  $("plants").hidden = Boolean(plant);
  $("lists").hidden = $("legend").hidden = doubts.away = Boolean(plant);
  doubts.show();
  document.title = plant ? `${plant.name} · meterflow` : state.site ? `${state.site.name} · meterflow` : "meterflow";
  if (plant) detail.open(plant);
  else detail.close();
}

function settle(site) {
  site.places = new Map([...site.plants, ...site.groups].map((place) => [place.scope, place]));
  site.zone = site.plants[0]?.time_zone ?? "UTC";
  site.name = site.groups.map((g) => g.name).join(" · ") || site.plants.map((p) => p.name).join(" · ") || "meterflow";
  $("site-name").textContent = site.name;
  state.site = site;
  if (!site.plants.length) fill($("plants"), h("p", { class: "waiting" }, "The site file has no plants."));
  show();
  route();
}

async function loadSite() {
  try {
    settle(await get("/api/site"));
    fault("site", null);
  } catch (error) {
    fault("site", `The site cannot be had now: ${error.message}`);
    setTimeout(loadSite, 3_000);
  }
}

choice("windows", WINDOWS, "window");
choice("spans", SPANS, "hours");
theme();
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => document.hidden || soon());
setInterval(soon, 15_000);
loadSite();
new Feed({
  overview(data) {
    fault("overview", null);
    expire(null);
    take(data);
    doubts.refresh();
  },
  stored(data) {
    expire(data);
    state.verdicts ||= !data.tables || "verdict" in data.tables;
    soon();
  },
  refresh() {
    expire(null);
    state.verdicts = true;
    soon();
  },
  unavailable(data) {
    connection("waiting");
    fault("overview", `The figures cannot be had now: ${data.error}`);
  },
  state: connection,
});
