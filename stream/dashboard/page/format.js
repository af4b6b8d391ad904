// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

export function short(number) {
  if (number === null || number === undefined) return "–";
  if (Math.abs(number) >= 1000) return whole.format(number);
  return number.toPrecision(3).replace(/\.?0+$/, "");
}

export const score = (value) => value.toFixed(4);

export function ago(milliseconds) {
  const seconds = Math.max(0, (Date.now() - milliseconds) / 1000);
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const utc = (milliseconds) => new Date(milliseconds).toISOString().replace("T", " ").slice(0, 19);

function sexagesimal(value, decimals) {
  const scale = 3600 * 10 ** decimals;
  const total = Math.round(Math.abs(value) * scale);
  const seconds = (total / 10 ** decimals) % 60;
  const minutes = Math.floor(total / (60 * 10 ** decimals)) % 60;
  const first = Math.floor(total / scale);
  const pad = (number) => String(number).padStart(2, "0");
  return `${pad(first)}:${pad(minutes)}:${seconds.toFixed(decimals).padStart(3 + decimals, "0")}`;
}

export const hours = (degrees) => sexagesimal((((degrees % 360) + 360) % 360) / 15, 2);
export const degrees = (value) => (value < 0 ? "−" : "+") + sexagesimal(value, 1);

export const FLAGS = {
  nan: "a plane has a pixel without a value inside the part that the network sees",
  truncated: "a plane is smaller than the survey's uncut stamp: it was cut at the chip edge",
  off_centre: "the source may not be where the network expects it",
  plane_missing: "a plane that the network can do without is absent; zeros stand in for it",
  blank: "a plane that the network can do without has nothing in it; zeros stand in for it",
  out_of_range: "a plane has an infinite pixel, or no measurable noise",
};
