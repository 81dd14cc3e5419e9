// Numbers and times as texts. A number and its unit stay on one line.
const NB = "\u00a0";
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let number = value;
  let unit = 0;
  while (number >= 1024 && unit < UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  const text = unit === 0 || number >= 100 ? number.toFixed(0) : number.toFixed(number >= 10 ? 1 : 2);
  return `${text}${NB}${UNITS[unit]}`;
}

export const rate = (value) => (value ? `${bytes(value)}/s` : "–");

export function percent(share) {
  if (share === null || share === undefined) return "–";
  // 100 % means that no byte is missing.
  return `${share >= 1 ? 100 : Math.min(99, Math.floor(share * 100))}${NB}%`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}${NB}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}${NB}min ${whole % 60}${NB}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}${NB}h ${Math.floor((whole % 3600) / 60)}${NB}min`;
  return `${Math.floor(whole / 86400)}${NB}d ${Math.floor((whole % 86400) / 3600)}${NB}h`;
}

// One unit only, for ages.
export function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}${NB}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}${NB}min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}${NB}h`;
  return `${Math.floor(whole / 86400)}${NB}d`;
}

export const count = (value) => value.toLocaleString("en-US");
export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");
export const moment = (at) => new Date(at * 1000).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
