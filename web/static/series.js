// Windows of one intensity as lines to draw. Nothing is ever drawn where there is no figure.

/** A kept series: points by their end. Newer answers replace older points, nothing else goes. */
export class Series {
  constructor() {
    this.points = new Map();
  }

  merge(columns) {
    columns.end.forEach((end, i) => {
      const known = columns.value[i] !== null && columns.value[i] !== undefined;
      this.points.set(end, {
        end,
        value: known ? columns.value[i] : null,
        share: columns.share[i],
        state: columns.state[i],
        reason: columns.reason[i],
      });
    });
  }

  trim(from) {
    for (const end of this.points.keys()) if (end < from) this.points.delete(end);
  }

  between(from, to) {
    return [...this.points.values()].filter((p) => p.end >= from && p.end <= to).sort((a, b) => a.end - b.end);
  }
}

/** The grid the windows end on: the smallest distance between two of them. */
export function gridStep(points) {
  let step = Infinity;
  for (let i = 1; i < points.length; i++) step = Math.min(step, points[i].end - points[i - 1].end);
  return Number.isFinite(step) ? step : 60_000;
}

/** Points with an empty one wherever the grid has an end without a row. */
export function withHoles(points, step = gridStep(points)) {
  const all = [];
  for (const point of points) {
    const before = all.at(-1);
    if (before && point.end - before.end > step * 1.5) {
      all.push({ end: before.end + step, value: null, share: null, state: "", reason: "absent" });
      if (point.end - step > before.end + step) {
        all.push({ end: point.end - step, value: null, share: null, state: "", reason: "absent" });
      }
    }
    all.push(point);
  }
  return all;
}

/** m: measured, e: (partly) estimated or of unknown origin, o: still open, "": no figure. */
export function kind(point) {
  if (point.value === null) return "";
  if (point.state === "o") return "o";
  return point.share !== null && point.share !== undefined && point.share >= 1 ? "m" : "e";
}

/**
 * Columns for the chart: x in seconds, one line each for measured, estimated and open parts. A
 * stretch between two points is drawn as the less certain of them; a line never crosses a hole.
 */
export function lines(points, step = gridStep(points)) {
  const all = withHoles(points, step);
  const kinds = all.map(kind);
  const line = (wanted) =>
    all.map((point, i) => {
      if (kinds[i] === "") return null;
      if (kinds[i] === wanted) return point.value;
      const touches = (k) => rank(k) > rank(kinds[i]) && k === wanted;
      return touches(kinds[i - 1]) || touches(kinds[i + 1]) ? point.value : null;
    });
  return { all, x: all.map((p) => p.end / 1000), measured: line("m"), estimated: line("e"), open: line("o") };
}

const rank = (k) => ["", "m", "e", "o"].indexOf(k ?? "");

/** Runs of one kind of point, from the point before the run to its last, as [from, to]. */
export function stretches(all, wanted) {
  const found = [];
  all.forEach((point, i) => {
    if (kind(point) !== wanted) return;
    const before = i > 0 && all[i - 1].value !== null ? all[i - 1].end : point.end;
    if (found.length && found.at(-1)[1] >= before) found.at(-1)[1] = point.end;
    else found.push([before, point.end]);
  });
  return found;
}

/** A series that ends so many grid steps before the chart does has no figure for the rest. */
const SILENT_STEPS = 15;

/**
 * Stretches without a figure as [from, to] in milliseconds, between figures and up to the edges.
 * A window that is still open is no gap: its figure is to come. `width`: how far a figure's mark
 * reaches back from its end.
 */
export function gaps(all, from, to, step = gridStep(all), width = 0) {
  if (!all.length) return [[from, to]];
  const found = [];
  let [last, empty] = [from, all[0].end - from > 1.5 * step ? all[0].end : null];
  for (const point of all) {
    if (point.value !== null) {
      if (empty !== null) found.push([last, point.end - width]);
      [last, empty] = [point.end, null];
    } else if (point.state !== "o") {
      empty = point.end;
    }
  }
  const end = all.at(-1).end;
  if (to - end > SILENT_STEPS * step) found.push([empty === null ? end : last, to]);
  else if (empty !== null) found.push([last, empty]);
  return found.filter(([start, stop]) => stop > start);
}

/** A sentence for those who do not see the chart. */
export function summary(points, unit, write) {
  const known = points.filter((p) => p.value !== null);
  if (!known.length) return "No figures in this span.";
  const values = known.map((p) => p.value);
  const estimated = known.filter((p) => kind(p) === "e").length;
  const parts = [`From ${write(Math.min(...values))} to ${write(Math.max(...values))} ${unit}, last ${write(values.at(-1))}.`];
  if (estimated) parts.push(`${estimated} of ${known.length} windows are partly estimated.`);
  const empty = points.length - known.length;
  if (empty) parts.push(`${empty} windows have no figure.`);
  return parts.join(" ");
}
