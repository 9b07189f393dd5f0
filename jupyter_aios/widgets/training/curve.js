// ------------------------------------------------------------------ the points of one curve

// The smallest and the largest value of stretches of 2, 4, 8, … points, so that a chart of some
// hundred pixels reads some hundred numbers, however many points it shows.
class Pyramid {
  constructor() {
    this.levels = []; // [{low, high}], level k over stretches of 2^(k+1)
  }

  // `values` has changed from index `from` on and has `count` entries.
  update(values, from, count) {
    let low = values;
    let high = values;
    let size = count;
    for (let k = 0; size > 1; k++) {
      const half = (size + 1) >> 1;
      const begin = (from >>= 1);
      let level = this.levels[k];
      if (!level || level.low.length < half) {
        const grown = { low: new Float32Array(half * 2), high: new Float32Array(half * 2) };
        if (level) {
          grown.low.set(level.low);
          grown.high.set(level.high);
        }
        level = this.levels[k] = grown;
      }
      for (let i = begin; i < half; i++) {
        const left = 2 * i;
        const right = left + 1 < size ? left + 1 : left;
        level.low[i] = lesser(low[left], low[right]);
        level.high[i] = greater(high[left], high[right]);
      }
      low = level.low;
      high = level.high;
      size = half;
    }
  }

  // Returns [smallest, largest] of values[begin, end).
  range(values, begin, end) {
    let low = NaN;
    let high = NaN;
    const take = (least, most) => {
      low = lesser(low, least);
      high = greater(high, most);
    };
    let lows = values;
    let highs = values;
    for (let k = 0; begin < end; k++) {
      if (begin & 1) take(lows[begin], highs[begin++]);
      if (end & 1 && begin < end) take(lows[--end], highs[end]);
      if (begin >= end) break;
      begin >>= 1;
      end >>= 1;
      if (begin >= end) break;
      ({ low: lows, high: highs } = this.levels[k]);
    }
    return [low, high];
  }
}

// Of two numbers the one that is a number.
function lesser(a, b) {
  return a <= b || b !== b ? a : b;
}

function greater(a, b) {
  return a >= b || b !== b ? a : b;
}

const COLUMNS = ["mean", "low", "high", "smooth"];

class Curve {
  constructor(key) {
    this.key = key;
    this.count = 0;
    this.steps = new Float64Array(256);
    for (const name of COLUMNS) this[name] = new Float32Array(256);
    this.pyramids = Object.fromEntries(COLUMNS.map((name) => [name, new Pyramid()]));
    this.hasBand = false;
    this.broken = []; // steps at which a value is not finite
    this.weight = 0; // of the past, in smoothing
    this.averages = new Float64Array(256);
    this.isThinned = false;
  }

  describe({ name, how, axis, group }) {
    Object.assign(this, { name, how, axis, group });
  }

  // Appends; what lies at or after the first new step goes.
  take({ steps, means, lows, highs }) {
    if (!steps.length) return;
    const from = this.index(steps[0]);
    this.write(from, steps, means, lows, highs);
  }

  write(from, steps, means, lows, highs) {
    const count = from + steps.length;
    if (count > this.steps.length) this.grow(count);
    this.steps.set(steps, from);
    this.mean.set(means, from);
    this.low.set(lows, from);
    this.high.set(highs, from);
    this.broken = this.broken.filter((step) => step < steps[0]);
    for (let i = from; i < count; i++) {
      if (!Number.isFinite(this.mean[i])) {
        if (this.broken.length < 200) this.broken.push(this.steps[i]);
        this.mean[i] = NaN;
      }
      if (!Number.isFinite(this.low[i])) this.low[i] = NaN;
      if (!Number.isFinite(this.high[i])) this.high[i] = NaN;
      if (this.low[i] !== this.high[i] && this.low[i] === this.low[i]) this.hasBand = true;
    }
    this.count = count;
    for (const name of ["mean", "low", "high"]) this.pyramids[name].update(this[name], from, count);
    this.smoothFrom(from);
  }

  // Puts more points between `low` and `high` than were there.
  refine(low, high, { steps, means, lows, highs }) {
    const begin = this.index(low);
    let end = this.index(high);
    if (end < this.count && this.steps[end] === high) end++;
    if (steps.length <= end - begin) return;
    const rest = COLUMNS.slice(0, 3).map((name) => this[name].slice(end, this.count));
    const restSteps = this.steps.slice(end, this.count);
    const joined = (first, second) => {
      const all = new first.constructor(first.length + second.length);
      all.set(first);
      all.set(second, first.length);
      return all;
    };
    const [mean, lowest, highest] = rest;
    this.write(
      begin,
      joined(steps, restSteps),
      joined(means, mean),
      joined(lows, lowest),
      joined(highs, highest),
    );
  }

  grow(count) {
    const size = Math.max(count, this.steps.length * 2);
    for (const name of ["steps", "averages", ...COLUMNS]) {
      const grown = new this[name].constructor(size);
      grown.set(this[name]);
      this[name] = grown;
    }
  }

  // Returns the first index whose step is not before `step`.
  index(step) {
    let begin = 0;
    let end = this.count;
    while (begin < end) {
      const middle = (begin + end) >> 1;
      if (this.steps[middle] < step) begin = middle + 1;
      else end = middle;
    }
    return begin;
  }

  nearest(step) {
    const after = this.index(step);
    if (after === 0 || this.count === 0) return this.count ? 0 : -1;
    if (after === this.count) return after - 1;
    return step - this.steps[after - 1] < this.steps[after] - step ? after - 1 : after;
  }

  smoothWith(weight) {
    if (weight === this.weight) return;
    this.weight = weight;
    this.smoothFrom(0);
  }

  // An exponential average without the bias towards its first value.
  smoothFrom(from) {
    if (!this.weight || !this.count) return;
    let average = from ? this.averages[from - 1] : 0;
    for (let i = from; i < this.count; i++) {
      const value = this.mean[i];
      if (value === value) average = this.weight * average + (1 - this.weight) * value;
      this.averages[i] = average;
      this.smooth[i] = value === value ? average / (1 - Math.pow(this.weight, i + 1)) : NaN;
    }
    this.pyramids.smooth.update(this.smooth, from, this.count);
  }
}
