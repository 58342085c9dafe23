// What the tables' terms are called on the page.

export const WINDOWS = [
  ["15m", "15 min"],
  ["1h", "1 h"],
  ["8h", "8 h"],
  ["24h", "24 h"],
];
const WINDOW_NAMES = new Map([...WINDOWS, ["day", "day"], ["month", "month"], ["year", "year"]]);
const CALENDAR = ["day", "month", "year"];

export const windowName = (window) => WINDOW_NAMES.get(window) ?? window;
export const isCalendar = (window) => CALENDAR.includes(window);

/** The wanted window if the intensity has it, else the next longer one, else its longest. */
export function nearestWindow(wanted, windows) {
  const order = [...WINDOW_NAMES.keys()];
  const sorted = [...windows].sort((a, b) => order.indexOf(a) - order.indexOf(b));
  return sorted.find((window) => order.indexOf(window) >= order.indexOf(wanted)) ?? sorted.at(-1) ?? wanted;
}

const MEASURES = { output: "Output", value_added: "Value added", energy: "Energy", ghg: "Greenhouse gases" };

export function measureName(measure) {
  if (!measure) return "";
  const words = measure.replaceAll("_", " ");
  return MEASURES[measure] ?? words[0].toUpperCase() + words.slice(1);
}

/** Units as they are printed: m³, kgCO₂e, 10,000 yuan. */
export function unitName(unit) {
  return (unit ?? "")
    .replace(/\bm3\b/g, "m³")
    .replace(/\bm2\b/g, "m²")
    .replace(/kgco2e/gi, "kgCO₂e")
    .replace(/\/\s*10[_ ,]?000 ?CNY/, "/10,000\u202fyuan")
    .replace(/\/\s*10kCNY/, "/10,000\u202fyuan")
    .replace(/\bCNY\b/, "yuan");
}

export function intensityUnit(intensity) {
  const amount = intensity.per_amount > 1 ? `${intensity.per_amount} ` : "";
  return unitName(`${intensity.unit}/${amount}${intensity.per_unit}`);
}

const AMOUNT_WORDS = { t: "tonne", kg: "kilogram", pcs: "piece", m: "metre", m2: "square metre", m3: "cubic metre" };

/** "Electricity per tonne of billet", "Water per 10,000 yuan of value added". */
export function intensityTitle(intensity, product) {
  const of = measureName(intensity.of) + (intensity.of === "electricity" && /^kg/.test(intensity.unit) ? ` in ${unitName(intensity.unit)}` : "");
  const made = product || intensity.product;
  if (intensity.per === "value_added" || intensity.per_unit === "CNY") {
    return `${of} per ${intensity.per_amount > 1 ? `${intensity.per_amount.toLocaleString()} ` : ""}yuan of ${intensity.per.replaceAll("_", " ")}`;
  }
  const amount = AMOUNT_WORDS[intensity.per_unit] ?? unitName(intensity.per_unit);
  const many = intensity.per_amount > 1 ? `${intensity.per_amount.toLocaleString()} ` : "";
  return `${of} per ${many}${amount}${made && made !== "output" ? ` of ${made.replaceAll("_", " ")}` : " made"}`;
}

/** Why there is no figure, as a sentence. */
export function reasonText(reason, intensity) {
  const of = measureName(intensity?.of ?? "").toLowerCase() || "the energy";
  const per = intensity?.per === "value_added" ? "value added" : "output";
  switch (reason) {
    case "open":
      return "still filling: not every reading is in yet";
    case "numerator_incomplete":
      return `readings of ${of} are missing in this window`;
    case "denominator_incomplete":
      return `readings of the ${per} are missing in this window`;
    case "denominator_zero":
      return per === "output" ? "nothing was made in this window" : "no value was added in this window";
    case "denominator_coarser":
      return `the ${per} is only known for longer spans than this window`;
    case "factor_unknown":
      return "no coefficient is known for this time";
    default:
      return reason ? reason.replaceAll("_", " ") : "nothing is known for this window";
  }
}

/** What a figure in standard coal or CO₂ covers; nothing for plain amounts. */
export function coversText(row, intensity) {
  const unit = row?.unit ?? intensity.unit;
  if (!row?.covers || !/kgc/i.test(unit)) return "";
  const covers = row.covers.replaceAll("_", " ").replaceAll("+", " + ");
  return covers.startsWith("comprehensive") ? covers : `covers ${covers} only, not all energies`;
}

export const QUALITIES = {
  valid: ["check", "measured"],
  estimated: ["warn", "estimated"],
  suspect: ["warn", "suspect"],
  partial: ["warn", "partly known"],
  missing: ["none", "missing"],
};

const VERDICTS = {
  plain: "as it was read",
  rollover: "rolled over",
  glitch: "glitch",
  spike: "spike",
  stuck: "stood still and caught up",
  clock_jump: "clock was off",
  reset: "set back to zero",
  decrease: "fell",
  conflict: "two values for one instant",
  gap: "gap",
  overlap: "reads that overlap",
  replacement: "meter replaced",
};

/** What a verdict means, in words. */
const CAUSES = {
  late: "a reading came late",
  correction: "a reading was corrected",
  conflict: "a reading got a second value",
  neighbour: "a neighbour made it suspect",
  verdict: "a verdict on a register came or went",
  decision: "somebody decided",
  site: "the site file was changed",
};
export const causeText = (cause) => (cause ? (CAUSES[cause] ?? cause.replaceAll("_", " ")) : "");

export const verdictText = (verdict) => VERDICTS[verdict] ?? verdict.replaceAll("_", " ");

const REJECTIONS = {
  not_json: "not JSON",
  empty: "empty message",
  too_large: "message too large",
  not_utf8: "not UTF-8 text",
  too_deep: "nested too deeply",
  wrong_shape: "not in the shape of a reading",
  duplicate_key: "a field is given twice",
  topic_unknown: "not a topic for readings",
  topic_invalid: "not a valid topic",
  unknown_plant: "unknown plant",
  unknown_point: "unknown point",
  point_of_other_plant: "a point of another plant",
  time_missing: "no time",
  time_invalid: "not a valid time",
  time_without_zone: "time without zone",
  time_before_2000: "time before 2000",
  time_in_future: "time in the future",
  value_missing: "no value",
  value_not_number: "the value is no number",
  value_not_finite: "the value is not finite",
  value_out_of_range: "value out of range",
  unit_unknown: "unknown unit",
  unit_not_convertible: "the unit does not fit the point",
  decision_invalid: "a decision that cannot be",
  not_permitted: "not permitted for this user",
};

export function rejectionText(reason) {
  const words = REJECTIONS[reason] ?? (reason ?? "").replaceAll("_", " ");
  return words ? words[0].toUpperCase() + words.slice(1) : "Not taken";
}
