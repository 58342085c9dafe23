// What comes from the service: answers of the API and the stream of events.

/** A JSON answer. A lost session leads back to the login form; other faults are thrown with their text. */
export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));
  const answer = await fetch(`${query}` ? `${path}?${query}` : path, { headers: { accept: "application/json" } });
  if (answer.status === 401) {
    location.reload();
    throw new Error("the session has ended");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error ?? `the service answered ${answer.status}`);
  }
  return answer.json();
}

/** Sends a JSON object; faults are thrown with the service's text. */
export async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (answer.ok) return answer.json();
  const { error, hint } = await answer.json().catch(() => ({}));
  throw new Error([error ?? `the service answered ${answer.status}`, hint].filter(Boolean).join("; "));
}

const SILENT_MS = 40_000;
const RETRY_MS = [1_000, 2_000, 5_000, 10_000];

/**
 * Listens to /events for as long as the page lives. `on` has overview(data), stored(data),
 * refresh() and state(name): live, waiting or lost. The service sends a comment every 15 s, which
 * pages cannot see, so after a long silence the connection is made anew rather than trusted.
 */
export class Feed {
  constructor(on) {
    this.on = on;
    this.attempts = 0;
    this.heard = Date.now();
    this.connect();
    setInterval(() => this.watch(), 5_000);
    addEventListener("online", () => this.again(0));
    addEventListener("pageshow", (event) => event.persisted && this.again(0));
    addEventListener("pagehide", () => this.source.close());
  }

  connect() {
    this.source = new EventSource("/events");
    const listen = (name, act) =>
      this.source.addEventListener(name, (event) => {
        this.heard = Date.now();
        this.attempts = 0;
        this.on.state("live");
        act(event.data);
      });
    listen("overview", (data) => this.on.overview(JSON.parse(data)));
    listen("stored", (data) => this.on.stored(JSON.parse(data)));
    listen("refresh", () => this.on.refresh());
    this.source.addEventListener("unavailable", (event) => this.on.unavailable(JSON.parse(event.data)));
    this.source.onopen = () => (this.heard = Date.now());
    this.source.onerror = () => this.failed();
  }

  failed() {
    this.on.state("lost");
    if (this.source.readyState === EventSource.CLOSED) this.again();
  }

  /** The browser itself tries again after a broken connection, but not after an error status. */
  again(after = RETRY_MS[Math.min(this.attempts++, RETRY_MS.length - 1)]) {
    clearTimeout(this.timer);
    this.source.close();
    this.timer = setTimeout(async () => {
      const answer = await fetch("/api/site", { method: "HEAD" }).catch(() => null);
      if (answer?.status === 401) location.reload();
      else this.connect();
    }, after);
  }

  /** Half-open connections look alive for ever: a plain request tells. */
  async watch() {
    if (document.hidden || this.source.readyState !== EventSource.OPEN || Date.now() - this.heard < SILENT_MS) return;
    this.heard = Date.now();
    const answer = await fetch("/livez", { cache: "no-store", signal: AbortSignal.timeout(8_000) }).catch(() => null);
    if (!answer?.ok) {
      this.on.state("lost");
      this.again();
    }
  }
}
