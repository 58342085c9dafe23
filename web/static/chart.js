// Draws a history and bars with uPlot. Loaded after the figures are on the screen.

import uPlot from "./vendor/uPlot.esm.js";
import { clock } from "./format.js";
import { gaps, lines, stretches } from "./series.js";

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { ink: read("--ink-soft"), grid: read("--grid"), gap: read("--gap"), target: read("--target"), doubt: read("--doubt") };
}

function seriesColour(host) {
  return getComputedStyle(host).getPropertyValue("--series").trim() || "#1f6feb";
}

function fontSize(host) {
  return Math.round(Math.max(11, parseFloat(getComputedStyle(host).fontSize)));
}

/** A diagonal hatch: an empty stretch that looks empty on purpose. */
function hatch(context, colour) {
  const tile = document.createElement("canvas");
  const size = 8 * devicePixelRatio;
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = devicePixelRatio;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/** Fills stretches from top to bottom, behind the lines. */
function drawStretches(chart, found, style) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = style;
  for (const [from, to] of found) {
    const left = chart.valToPos(from / 1000, "x", true);
    ctx.fillRect(left, bbox.top, Math.max(chart.valToPos(to / 1000, "x", true) - left, 1), bbox.height);
  }
  ctx.restore();
}

function drawTarget(chart, target, colour) {
  const { ctx, bbox } = chart;
  const y = Math.round(chart.valToPos(target, "y", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

/**
 * The y range: all figures and the target, a little air, and nothing below 0 for positive figures.
 * Bars are read by their length, so theirs begins at 0.
 */
export function yRange(low, high, target, bars) {
  const values = [low, high, target, bars ? 0 : null].filter((value) => value !== null && value !== undefined);
  if (!values.length) return [0, 1];
  let [bottom, top] = [Math.min(...values), Math.max(...values)];
  const air = (top - bottom || Math.abs(top) || 1) * 0.1;
  return [bottom >= 0 ? Math.max(0, bottom - air) : bottom - air, top + air];
}

function timeLabels(zone) {
  return (chart, splits) => {
    const wide = splits.length > 1 && splits[1] - splits[0] >= 86_400;
    return splits.map((s) => {
      const text = clock(s * 1000, zone);
      return wide || text === "00:00" ? clock(s * 1000, zone, "day") : text;
    });
  };
}

function axes(host, zone, size) {
  const { ink, grid } = colours();
  const common = { stroke: ink, font: `${size}px system-ui, sans-serif`, ticks: { show: false } };
  const label = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });
  return [
    { ...common, space: size * 5, size: size * 1.9, gap: 4, grid: { show: false }, values: timeLabels(zone) },
    {
      ...common,
      space: size * 2.6,
      gap: 4,
      size: (chart, values) => Math.max(26, 8 + size * 0.6 * Math.max(0, ...(values ?? []).map((v) => v.length))),
      grid: { stroke: grid, width: 1 },
      values: (chart, splits) => splits.map((value) => label.format(value)),
    },
  ];
}

/** A lone figure between two gaps is drawn as a dot: as a line it would have no length. */
function lonely(chart, index) {
  const data = chart.data[index];
  const empty = (i) => data[i] === null || data[i] === undefined;
  const found = [];
  for (let i = 0; i < data.length; i++) if (!empty(i) && empty(i - 1) && empty(i + 1)) found.push(i);
  return found;
}

function line(colour, size, dash) {
  const points = { show: () => false, filter: lonely, size: size / 2, width: 0, fill: colour, stroke: colour };
  return { stroke: colour, width: size / 6, dash: dash?.map((part) => (part * size) / 12), spanGaps: false, points };
}

/** Calendar windows stand side by side and do not roll: bars from their start to their end. */
function bar(colour, size, dash) {
  const paths = uPlot.paths.bars({ size: [0.86, 6 * size], align: -1 });
  return { stroke: colour, fill: dash ? "transparent" : colour, width: size / 10, dash, paths, points: { show: false } };
}

/** The history of one intensity. `show(points, view)` draws; `view` has from, to, zone, target, now. */
export class HistoryChart {
  constructor(host, onPoint) {
    this.host = host;
    this.onPoint = onPoint;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(host);
    host.addEventListener("keydown", (event) => this.key(event));
    host.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
  }

  show(points, view) {
    this.view = view;
    const { all, x, measured, estimated, open } = lines(points, view.step);
    this.all = all;
    this.gaps = gaps(all, view.from, view.to, view.step, view.bars ? view.step : 0);
    this.estimates = stretches(all, "e");
    this.host.dataset.gaps = this.gaps.length;
    this.host.dataset.points = points.filter((p) => p.value !== null).length;
    const data = [x, open, estimated, measured];
    if (this.plot && this.bars === view.bars) return this.plot.setData(data);
    this.bars = view.bars;
    this.plot?.destroy();
    this.make(data);
  }

  make(data) {
    const { host } = this;
    const size = fontSize(host);
    const { gap, target, doubt } = colours();
    const stroke = seriesColour(host);
    const draw = this.bars ? bar : line;
    const options = {
      ...this.box(),
      legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.view.zone),
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: {
        x: { time: true, range: () => [this.view.from / 1000, this.view.to / 1000] },
        y: { range: (u, low, high) => yRange(low, high, this.view.target, this.bars) },
      },
      axes: axes(host, this.view.zone, size),
      series: [{}, draw(stroke, size, [2, 4]), draw(stroke, size, [6, 4]), draw(stroke, size)],
      hooks: {
        drawClear: [
          (u) => drawStretches(u, this.estimates, doubt),
          (u) => drawStretches(u, this.gaps, hatch(u.ctx, gap)),
        ],
        draw: [(u) => this.view.target !== null && drawTarget(u, this.view.target, target)],
        setCursor: [(u) => this.onPoint(u.cursor.idx === null || u.cursor.left < 0 ? null : this.all[u.cursor.idx])],
      },
      padding: [size * 0.7, size * 1.4, 0, 0],
    };
    this.plot = new uPlot(options, data, host);
    host.plot = this.plot;
  }

  box() {
    return { width: Math.max(120, this.host.clientWidth), height: Math.max(80, this.host.clientHeight) };
  }

  resize() {
    const { width, height } = this.box();
    if (this.plot && (this.plot.width !== width || this.plot.height !== height)) this.plot.setSize({ width, height });
  }

  /** Colours and letters are read at making: after a change of theme the chart is made anew. */
  renew() {
    if (!this.plot) return;
    const data = this.plot.data;
    this.plot.destroy();
    this.make(data);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -15, PageDown: 15, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !this.plot || !this.all.length) return;
    event.preventDefault();
    const last = this.all.length - 1;
    const idx = Math.min(last, Math.max(0, (this.plot.cursor.idx ?? last) + step));
    const left = this.plot.valToPos(this.plot.data[0][idx], "x");
    this.plot.setCursor({ left, top: 10 });
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
  }
}

/** Amounts by hour as bars from zero; `bars` are {start, end, value, sure}. */
export class BarChart {
  constructor(host, onBar) {
    this.host = host;
    this.onBar = onBar;
  }

  show(bars, view) {
    this.plot?.destroy();
    const { host } = this;
    const size = fontSize(host);
    const stroke = seriesColour(host);
    const fills = uPlot.paths.bars({ size: [0.86, Infinity], align: 1 });
    const column = (fill, extra) => ({ stroke, fill, width: 1, paths: fills, points: { show: false }, ...extra });
    const empty = bars.filter((b) => b.value === null).map((b) => [b.start, b.end]);
    const options = {
      width: Math.max(120, host.clientWidth),
      height: Math.max(100, host.clientHeight),
      legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), view.zone),
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: true, range: () => [view.from / 1000, view.to / 1000] },
        y: { range: (u, low, high) => [Math.min(0, (low ?? 0) * 1.08), Math.max(0, (high ?? 1) * 1.08) || 1] },
      },
      axes: axes(host, view.zone, size),
      series: [{}, column(stroke), column("transparent", { dash: [4, 3] })],
      hooks: {
        drawClear: [(u) => drawStretches(u, empty, hatch(u.ctx, colours().gap))],
        setCursor: [(u) => this.onBar(this.under(u, bars))],
      },
      padding: [size * 0.7, size * 1.4, 0, 0],
    };
    const data = [
      bars.map((b) => b.start / 1000),
      bars.map((b) => (b.sure ? b.value : null)),
      bars.map((b) => (b.sure ? null : b.value)),
    ];
    this.plot = new uPlot(options, data, host);
    host.plot = this.plot;
  }

  under(chart, bars) {
    if (chart.cursor.left < 0) return null;
    const at = chart.posToVal(chart.cursor.left, "x") * 1000;
    return bars.find((b) => b.start <= at && at < b.end) ?? null;
  }

  destroy() {
    this.plot?.destroy();
  }
}

