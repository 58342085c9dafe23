// Fetches and keeps the history of one figure, and has it drawn when it is on the screen.

import { get } from "./feed.js";
import { Series } from "./series.js";

let drawing = null;
/** The chart library comes once, when the first chart is wanted; figures never wait for it. */
const drawer = () => (drawing ??= import("./chart.js"));

const onScreen = new IntersectionObserver(
  (entries) => entries.forEach((entry) => entry.target.history?.seen(entry.isIntersecting)),
  { rootMargin: "200px" },
);

/** One chart: `ask` is {scope, id, product, window}; `view()` tells span, zone, target and horizon. */
export class History {
  constructor(host, view, { onPoint, onData, onFault }) {
    this.host = host;
    this.view = view;
    Object.assign(this, { onPoint, onData, onFault });
    this.visible = false;
    this.stale = true;
    this.staleFrom = -Infinity;
    host.history = this;
    onScreen.observe(host);
  }

  /** Another window or product: nothing kept is of use. */
  ask(ask) {
    const key = JSON.stringify(ask);
    if (key === this.key) return;
    this.key = key;
    this.asked = ask;
    this.series = new Series();
    this.from = Infinity;
    this.expire(-Infinity);
  }

  /** What ends at `from` or later may have changed: the next refresh fetches it. */
  expire(from) {
    this.staleFrom = this.stale ? Math.min(this.staleFrom, from) : from;
    this.stale = true;
  }

  seen(visible) {
    this.visible = visible;
    if (visible) this.refresh();
  }

  async refresh() {
    if (!this.visible || !this.asked || this.busy) return;
    const { from } = this.view();
    if (from < this.from) [this.stale, this.staleFrom] = [true, -Infinity];
    if (!this.stale) return this.draw();
    const start = Math.max(from - 1, this.staleFrom - 1);
    const { key, series } = this;
    [this.busy, this.stale] = [true, false];
    try {
      const columns = await get("/api/series", { ...this.asked, from: new Date(start).toISOString() });
      if (key === this.key) {
        series.merge(columns);
        this.from = Math.min(this.from, from);
        this.onFault(null);
        await this.draw();
      }
    } catch (fault) {
      [this.stale, this.staleFrom] = [true, Math.min(start, this.staleFrom)];
      this.onFault(fault);
      setTimeout(() => this.refresh(), 5_000);
    } finally {
      this.busy = false;
    }
    if (this.stale && key !== this.key) this.refresh();
  }

  async draw() {
    const view = this.view();
    this.series.trim(view.from - 86_400_000);
    const points = this.series.between(view.from, view.to);
    this.onData(points);
    const { HistoryChart } = await drawer();
    if (!this.host.isConnected) return;
    this.chart ??= new HistoryChart(this.host, this.onPoint);
    this.chart.show(points, view);
  }

  renew() {
    this.chart?.renew();
  }

  destroy() {
    onScreen.unobserve(this.host);
    this.chart?.destroy();
  }
}

/** The library for bars, for those who draw them themselves. */
export async function barChart() {
  return (await drawer()).BarChart;
}
