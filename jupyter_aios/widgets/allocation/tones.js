// ------------------------------------------------------------------ colours
// Tasks are coloured by job, user, priority or the GPUs that they ask for. The ten largest groups have
// a colour of their own; after thirty the colours come again, and the legend says so.

const BASES = 10;
const SHADES = 3;
const MOST_STEPS = 6;

function parseColour(text) {
  const canvas = parseColour.canvas || (parseColour.canvas = document.createElement("canvas"));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = text;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function mix(one, other, part) {
  const value = one.map((channel, i) => Math.round(channel + (other[i] - channel) * part));
  return `rgb(${value.join(",")})`;
}

// What the theme gives, as colours a canvas takes.
function readTheme(element) {
  const style = getComputedStyle(element);
  const read = (name) => parseColour(style.getPropertyValue(name).trim());
  const ground = read("--aios-ground");
  const ink = parseColour(style.color);
  const isDark = ground[0] + ground[1] + ground[2] < 384;
  const solid = (colour) => mix(colour, colour, 0);
  return {
    ground, ink, isDark,
    font: style.fontFamily,
    bases: Array.from({ length: BASES }, (_, i) => read(`--aios-c${i}`)),
    groundText: solid(ground),
    inkText: solid(ink),
    faintInk: mix(ground, ink, 0.62),
    tile: mix(ground, ink, isDark ? 0.1 : 0.035),
    border: mix(ground, ink, 0.2),
    empty: mix(ground, ink, isDark ? 0.2 : 0.1),
    others: mix(ground, ink, isDark ? 0.46 : 0.38),
    warning: solid(read("--aios-c1")),
    brand: solid(read("--aios-brand")),
    move: solid(read("--aios-c7")),
  };
}

class Tones {
  constructor(scene, mode, theme) {
    this.scene = scene;
    this.mode = mode;
    const { tasks } = scene;
    if (mode === "priority") this.byPriority(theme);
    else if (mode === "user") this.byGroup(theme, tasks.user, (user) => tasks.user_names[user] || `user ${user}`);
    else if (mode === "size") this.byGroup(theme, gpuSizes(scene), describeGpuSize);
    else this.byGroup(theme, tasks.job, (job) => tasks.job_names[job] || `job ${job}`);
    const parsed = this.colours.map(parseColour);
    this.faded = parsed.map((colour) => mix(theme.ground, colour, theme.isDark ? 0.3 : 0.22));
    // On a bar text is black or white, whichever can be read.
    this.inks = parsed.map(([r, g, b]) => (r * 0.299 + g * 0.587 + b * 0.114 > 140 ? "#000" : "#fff"));
    this.heat = Array.from({ length: 17 }, (_, k) => heatColour(k / 16, theme));
    this.fadedHeat = this.heat.map((colour) => mix(theme.ground, parseColour(colour), 0.25));
  }

  byGroup({ bases, ground, ink }, groups, name) {
    const { tasks } = this.scene;
    const sizes = new Map();
    for (let i = 0; i < tasks.count; i++) {
      const size = tasks.gpus[i] * tasks.milli[i] + tasks.demand[i * 3] / 16 + 1;
      sizes.set(groups[i], (sizes.get(groups[i]) || 0) + size);
    }
    const order = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || a - b);
    const shades = [(base) => mix(base, base, 0), (base) => mix(base, ground, 0.38), (base) => mix(base, ink, 0.34)];
    this.colours = Array.from({ length: BASES * SHADES }, (_, k) => shades[Math.floor(k / BASES)](bases[k % BASES]));
    const rank = new Map(order.map((group, k) => [group, k % (BASES * SHADES)]));
    this.of = Uint8Array.from({ length: tasks.count }, (_, i) => rank.get(groups[i]));
    this.entries = order.slice(0, 8).map((group, k) => ({ colour: this.colours[k], text: name(group) }));
    this.more = order.length - this.entries.length;
    this.repeats = order.length > BASES * SHADES;
  }

  byPriority({ bases, ground }) {
    const { tasks } = this.scene;
    const levels = [...new Set(tasks.priority)].sort((a, b) => a - b);
    const steps = Math.min(levels.length, MOST_STEPS);
    const step = (k) => Math.min(Math.floor((k * steps) / levels.length), steps - 1);
    const strength = (k) => (steps === 1 ? 1 : 0.3 + (0.7 * k) / (steps - 1));
    this.colours = Array.from({ length: steps }, (_, k) => mix(ground, bases[0], strength(k)));
    const rank = new Map(levels.map((level, k) => [level, step(k)]));
    this.of = Uint8Array.from({ length: tasks.count }, (_, i) => rank.get(tasks.priority[i]));
    this.entries = this.colours.map((colour, k) => {
      const mine = levels.filter((_, at) => step(at) === k);
      const [low, high] = [mine[0], mine[mine.length - 1]];
      return { colour, text: low === high ? `priority ${low}` : `priority ${low} to ${high}` };
    }).reverse();
    this.more = 0;
    this.repeats = false;
  }
}

const gpuSizes = ({ tasks }) => Int32Array.from({ length: tasks.count }, (_, i) => tasks.gpus[i] * tasks.milli[i]);
const describeGpuSize = (milli) => (milli ? `${formatMilli(milli)} ${milli <= WHOLE ? "GPU" : "GPUs"}` : "no GPU");

// From the ground over blue to a strong tone, so that full nodes stand out on light and dark pages.
function heatColour(share, { ground, ink, bases }) {
  if (share < 0.6) return mix(ground, bases[0], 0.12 + share);
  return mix(parseColour(mix(ground, bases[0], 0.72)), parseColour(mix(bases[0], ink, 0.3)), (share - 0.6) / 0.4);
}
