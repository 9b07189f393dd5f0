// ------------------------------------------------------------------ numbers, ticks, margins

const LEFT = 50;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;

function formatNumber(value) {
  if (value === null || value === undefined) return "";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "−inf";
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) {
    const [digits, exponent] = value.toExponential(2).split("e");
    return `${Number(digits)}e${Number(exponent)}`.replaceAll("-", "−");
  }
  const text = size >= 1000 ? Math.round(value).toLocaleString("en") : `${Number(value.toPrecision(4))}`;
  return text.replace("-", "−");
}

const formatStep = (step) => Math.round(step).toLocaleString("en");

function niceTicks(low, high, most) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const power = Math.pow(10, Math.floor(Math.log10(span / most)));
  const unit = [1, 2, 5, 10].map((n) => n * power).find((n) => span / n <= most) || power * 10;
  const ticks = [];
  for (let i = Math.ceil(low / unit - 1e-9); i * unit <= high + unit * 1e-9; i++) ticks.push(i * unit + 0);
  return ticks;
}

function logTicks(low, high, most) {
  const begin = Math.ceil(low - 1e-9);
  const end = Math.floor(high + 1e-9);
  if (end - begin < 1) {
    const ticks = niceTicks(Math.pow(10, low), Math.pow(10, high), most).filter((v) => v > 0);
    return ticks.map(Math.log10);
  }
  const every = Math.max(1, Math.ceil((end - begin + 1) / most));
  const ticks = [];
  for (let power = begin; power <= end; power += every) ticks.push(power);
  return ticks;
}
