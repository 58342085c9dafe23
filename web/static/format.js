// Numbers and times as texts: numbers as the reader's system writes them, times in the plant's zone.

const formats = new Map();

function cached(key, make) {
  if (!formats.has(key)) formats.set(key, make());
  return formats.get(key);
}

/** Decimals by magnitude, always the same for one magnitude, so that a figure does not jump about. */
function decimalsFor(value) {
  const size = Math.abs(value);
  if (size >= 1000) return 0;
  if (size >= 100) return 1;
  if (size >= 10) return 2;
  if (size >= 1) return 3;
  if (size === 0) return 0;
  return Math.min(9, 3 - Math.floor(Math.log10(size)) - 1);
}

/** A figure with four significant digits or all of its whole ones. */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "–";
  const decimals = decimalsFor(Number(value));
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return cached(`n${decimals}`, () => new Intl.NumberFormat(undefined, options)).format(value);
}

/** A number as it is, with up to three decimals: targets, thresholds, amounts. */
export function plain(value, decimals = 3) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "–";
  return cached(`p${decimals}`, () => new Intl.NumberFormat(undefined, { maximumFractionDigits: decimals })).format(value);
}

export function whole(value) {
  return plain(value, 0);
}

/** A share such as 0.123 as "12.3 %"; never rounded to 0 or 100 when it is neither. */
export function percent(share) {
  const value = Math.abs(share) * 100;
  if (value > 0 && value < 0.1) return "under 0.1\u202f%";
  if (value < 100 && value > 99.9) return "over 99.9\u202f%";
  return `${plain(value, value < 10 ? 1 : 0)}\u202f%`;
}

function timeFormat(zone, kind) {
  const options = {
    time: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    second: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    day: { day: "numeric", month: "short" },
    date: { day: "numeric", month: "short", year: "numeric" },
    key: { year: "numeric", month: "2-digit", day: "2-digit" },
    zone: { timeZoneName: "shortOffset" },
  }[kind];
  return cached(`t${kind}${zone}`, () => new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone }));
}

export function clock(ms, zone, kind = "time") {
  return timeFormat(zone, kind).format(ms);
}

/** Whether two instants lie on the same civil day of a zone. */
export function sameDay(one, other, zone) {
  return clock(one, zone, "key") === clock(other, zone, "key");
}

/** "14:31" today, "21 Nov, 14:31" this year, "21 Nov 2018, 14:31" before; midnight ends its day. */
export function moment(ms, zone, now) {
  if (sameDay(ms, now, zone)) return clock(ms, zone);
  const near = Math.abs(now - ms) < 300 * 86_400_000;
  return `${clock(ms, zone, near ? "day" : "date")}, ${clock(ms, zone)}`;
}

/** The instant of a "2026-11-22T08:00:00" of a zone's clocks; of one that they show twice the first. */
export function instantIn(text, zone) {
  const wall = Date.parse(`${text}Z`);
  const shown = (ms) => {
    const parts = cached(`i${zone}`, () => new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: zone })).format(ms);
    return Date.parse(`${parts.replace(" ", "T")}Z`);
  };
  const offsets = [wall - 86_400_000, wall + 86_400_000].map((ms) => shown(ms) - ms);
  const found = offsets.map((offset) => wall - offset).filter((ms) => shown(ms) === wall);
  return found.length ? Math.min(...found) : wall - offsets[0];
}

/** What a field for date and time shows of an instant, in a zone. */
export function fieldIn(ms, zone) {
  return new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: zone }).format(ms).replace(" ", "T");
}

/** "Asia/Shanghai, GMT+8": the zone as a person and as a clock knows it. */
export function zoneName(zone, at) {
  const offset = timeFormat(zone, "zone").formatToParts(at).find((part) => part.type === "timeZoneName");
  return `${zone.replaceAll("_", " ")} (${offset ? offset.value.replace("GMT", "UTC") : zone})`;
}

/** How long ago, in words that stay true for a while. */
export function ago(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${whole(Math.round(seconds / 86400))} days ago`;
}

export function duration(ms) {
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`;
  if (ms % 60_000 === 0) return `${ms / 60_000} min`;
  return `${plain(ms / 1000)} s`;
}
