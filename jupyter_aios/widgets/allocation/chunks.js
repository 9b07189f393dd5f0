// ------------------------------------------------------------------ drawn pieces of the map
// The map is drawn once, in squares, at each zoom that is looked at; moving it copies squares. While
// a square is not drawn yet, those of another zoom stand in for it, stretched.

const CHUNK = 256;
const BUDGET_MS = 5;
const MOST_CHUNKS = 360;
const MOST_LEVELS = 3;

class Chunks {
  constructor(paint) {
    this.paint = paint; // (context, scale, x, y, width, height)
    this.levels = new Map(); // scale -> Map of chunks; the last is the newest
    this.keep = 0; // the scale at which all is in sight: it stands in for every other
  }

  clear() {
    this.levels.clear();
  }

  level(scale) {
    let level = this.levels.get(scale);
    if (level) this.levels.delete(scale);
    level = level || new Map();
    this.levels.set(scale, level);
    for (const old of this.levels.keys()) {
      if (this.levels.size <= MOST_LEVELS) break;
      if (old !== this.keep && old !== scale) this.levels.delete(old);
    }
    return level;
  }

  // Draws the view whose left top corner is (x, y) in pixels at this scale. With `isMoving` no new
  // squares are drawn of a zoom that will be left at once. Returns whether all is there.
  draw(context, scale, x, y, width, height, limits, isZooming) {
    const wanted = visible(x, y, width, height, limits);
    const level = isZooming ? this.levels.get(scale) || new Map() : this.level(scale);
    const missing = wanted.filter(({ key }) => !level.has(key));
    if (missing.length) this.drawStandIns(context, scale, x, y, width, height);
    const begun = performance.now();
    let left = missing.length;
    if (!isZooming) {
      for (const chunk of missing) {
        if (left < missing.length && performance.now() - begun > BUDGET_MS) break;
        this.make(level, scale, chunk, limits);
        left--;
      }
    }
    for (const { key, column, row } of wanted) {
      const canvas = level.get(key);
      if (canvas) context.drawImage(canvas, column * CHUNK - x, row * CHUNK - y);
    }
    return left === 0;
  }

  make(level, scale, { key, column, row }, limits) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.min(CHUNK, limits.width - column * CHUNK);
    canvas.height = Math.min(CHUNK, limits.height - row * CHUNK);
    const context = canvas.getContext("2d", { alpha: false });
    this.paint(context, scale, column * CHUNK, row * CHUNK, canvas.width, canvas.height);
    level.set(key, canvas);
    if (level.size > MOST_CHUNKS) level.delete(level.keys().next().value);
  }

  drawStandIns(context, scale, x, y, width, height) {
    const levels = [...this.levels].filter(([other, level]) => other !== scale && level.size);
    levels.sort(([a], [b]) => (a === this.keep ? -1 : b === this.keep ? 1 : 0));
    for (const [other, level] of levels) {
      const factor = scale / other;
      for (const [key, canvas] of level) {
        const [column, row] = key.split(",").map(Number);
        const left = column * CHUNK * factor - x;
        const top = row * CHUNK * factor - y;
        const wide = canvas.width * factor;
        const high = canvas.height * factor;
        if (left > width || top > height || left + wide < 0 || top + high < 0) continue;
        context.drawImage(canvas, left, top, wide, high);
      }
    }
  }

  // Draws one square beside those in sight, for where the map may be moved next. Returns whether
  // there may be another.
  makeAhead(scale, x, y, width, height, limits) {
    const level = this.levels.get(scale);
    if (!level || level.size >= MOST_CHUNKS) return false;
    const around = visible(x - CHUNK, y - CHUNK, width + 2 * CHUNK, height + 2 * CHUNK, limits);
    const next = around.find(({ key }) => !level.has(key));
    if (next) this.make(level, scale, next, limits);
    return Boolean(next);
  }
}

function visible(x, y, width, height, limits) {
  const found = [];
  const lastColumn = Math.min(Math.floor((x + width - 1) / CHUNK), Math.ceil(limits.width / CHUNK) - 1);
  const lastRow = Math.min(Math.floor((y + height - 1) / CHUNK), Math.ceil(limits.height / CHUNK) - 1);
  for (let row = Math.max(Math.floor(y / CHUNK), 0); row <= lastRow; row++) {
    for (let column = Math.max(Math.floor(x / CHUNK), 0); column <= lastColumn; column++) {
      found.push({ key: `${column},${row}`, column, row });
    }
  }
  return found;
}
