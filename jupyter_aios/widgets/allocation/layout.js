// ------------------------------------------------------------------ where nodes lie
// Tiles in rows, equal ones together. The unit is a pixel at zoom 1. Few nodes flow in the order in
// which they came; many are put into groups of one model and size, each with a heading.

const TILE = 128;
const SPACE = 8;
const PAD = 5;
const TITLE = 17;
const LANE = 12;
const BAR = 10;
const THIN = 5;
const FEW_NODES = 48;
const HEADING_PX = 16;
const MOST_HEADING = 72; // in units: a gap that is not too large when its tiles can be read

class Layout {
  constructor(scene, width, height) {
    this.scene = scene;
    const { nodes } = scene;
    this.left = new Float32Array(nodes.count);
    this.top = new Float32Array(nodes.count);
    this.heights = Float32Array.from({ length: nodes.count }, (_, j) => tileHeight(scene, j));
    this.groups = this.findGroups();
    let best = null;
    // Headings are as large as they can be read at the zoom at which everything is in sight.
    let heading = 0;
    for (let round = 0; round < 3; round++) {
      best = this.bestColumns(width, height, heading);
      const most = this.groups.length > 1 ? Math.min(HEADING_PX, (0.3 * height) / this.groups.length) : 0;
      heading = Math.min(most / best.scale, most ? MOST_HEADING : 0);
    }
    this.heading = heading;
    this.place(best.columns);
  }

  findGroups() {
    const { nodes } = this.scene;
    const all = Array.from({ length: nodes.count }, (_, j) => j);
    if (nodes.count <= FEW_NODES) return [{ label: "", nodes: all }];
    const groups = new Map();
    for (const j of all) {
      const key = `${nodes.model[j]}/${this.scene.deviceCount[j]}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(j);
    }
    const devices = (those) => this.scene.deviceCount[those[0]];
    const sorted = [...groups.values()].sort((a, b) => devices(b) - devices(a) || b.length - a.length);
    return sorted.map((those) => ({ label: this.describe(those), nodes: those }));
  }

  describe(those) {
    const count = this.scene.deviceCount[those[0]];
    const model = this.scene.modelOf(those[0]);
    const has = count ? `${count} × ${model || "GPU"}` : "without GPUs";
    return `${plural(those.length, "node")} ${count ? "of " : ""}${has}`;
  }

  bestColumns(width, height, heading) {
    const most = Math.max(...this.groups.map((group) => group.nodes.length), 1);
    let best = { columns: 1, scale: 0 };
    const step = Math.max(1, Math.floor(Math.sqrt(most) / 60));
    for (let columns = 1; columns <= Math.min(most, 600); columns += step) {
      const across = columns * (TILE + SPACE) + SPACE;
      const scale = Math.min(width / across, height / this.totalHeight(columns, heading));
      if (scale > best.scale * 1.0001) best = { columns, scale };
    }
    return best;
  }

  totalHeight(columns, heading) {
    let total = SPACE;
    for (const { nodes } of this.groups) {
      total += heading;
      if (this.groups.length > 1) total += Math.ceil(nodes.length / columns) * (this.heights[nodes[0]] + SPACE);
      else for (let k = 0; k < nodes.length; k += columns) total += this.rowHeight(nodes, k, columns) + SPACE;
    }
    return total;
  }

  rowHeight(nodes, first, columns) {
    let most = 0;
    for (let k = first; k < Math.min(first + columns, nodes.length); k++) most = Math.max(most, this.heights[nodes[k]]);
    return most;
  }

  place(columns) {
    this.rows = [];
    let y = SPACE;
    for (const group of this.groups) {
      group.top = y;
      y += this.heading;
      for (let k = 0; k < group.nodes.length; k += columns) {
        const those = group.nodes.slice(k, k + columns);
        const height = this.rowHeight(group.nodes, k, columns);
        this.rows.push({ top: y, height, nodes: those });
        those.forEach((node, at) => {
          this.left[node] = SPACE + at * (TILE + SPACE);
          this.top[node] = y;
        });
        y += height + SPACE;
      }
    }
    this.width = Math.min(columns, Math.max(...this.rows.map((row) => row.nodes.length), 1)) * (TILE + SPACE) + SPACE;
    this.height = Math.max(y, 2 * SPACE);
  }

  // Returns the first row that ends below y.
  rowAt(y) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].top + this.rows[middle].height < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  nodeAt(x, y) {
    const row = this.rows[this.rowAt(y)];
    if (!row || y < row.top) return -1;
    const at = Math.floor((x - SPACE) / (TILE + SPACE));
    const node = row.nodes[at];
    if (node === undefined || x - this.left[node] > TILE || y - row.top > this.heights[node]) return -1;
    return node;
  }

  // Calls for each node that touches a rectangle.
  eachIn(x, y, width, height, call) {
    const first = Math.max(Math.floor((x - SPACE - TILE) / (TILE + SPACE)), 0);
    const last = Math.floor((x + width - SPACE) / (TILE + SPACE));
    for (let r = this.rowAt(y); r < this.rows.length && this.rows[r].top <= y + height; r++) {
      const { nodes } = this.rows[r];
      for (let k = first; k <= last && k < nodes.length; k++) call(nodes[k]);
    }
  }
}

// How the devices of a node are put: in one column while they are few.
function deviceShape(count) {
  const columns = count <= 4 ? 1 : count <= 16 ? 2 : Math.ceil(count / 8);
  return { columns, rows: Math.ceil(count / columns) };
}

// CPU and memory: thin below devices, thick where there are none, nothing where there is nothing.
function laneHeights(scene, node) {
  const thick = scene.deviceCount[node] ? THIN : BAR;
  return [0, 1].map((column) => (scene.nodes.capacity[node * 3 + column] > 0 ? thick : 0));
}

function tileHeight(scene, node) {
  const devices = deviceShape(scene.deviceCount[node]).rows * LANE;
  const lanes = laneHeights(scene, node).reduce((sum, height) => sum + (height ? height + 2 : 0), 0);
  return TITLE + devices + lanes + PAD;
}

// Calls for each lane of a tile: (kind, number, x, y, width, height) in the tile's own units, where
// the kind is "device", "cpu" or "memory". Where names cannot be read, lanes have the title's room too.
function eachLane(scene, node, detail, callWith) {
  const height = tileHeight(scene, node);
  const top = detail === "names" ? TITLE : PAD;
  const stretch = (height - top - PAD) / (height - TITLE - PAD || 1);
  const call = (kind, number, x, y, wide, high) => callWith(kind, number, x, top + (y - TITLE) * stretch, wide, high * stretch);
  const count = scene.deviceCount[node];
  const { columns, rows } = deviceShape(count);
  const width = (TILE - 2 * PAD - (columns - 1) * 3) / columns;
  for (let d = 0; d < count; d++) {
    if (scene.nodes.devices[node * scene.slots + d] < 0) continue;
    call("device", d, PAD + Math.floor(d / rows) * (width + 3), TITLE + (d % rows) * LANE, width, BAR);
  }
  let y = TITLE + rows * LANE;
  laneHeights(scene, node).forEach((height, column) => {
    if (!height) return;
    call(column ? "memory" : "cpu", column, PAD, y, TILE - 2 * PAD, height);
    y += height + 2;
  });
}

// Calls for each part of a lane that is taken: (task or -1 for others, from, to) as shares of it.
function eachPart(scene, placement, node, kind, number, call) {
  const { nodes, tasks, slots } = scene;
  const isDevice = kind === "device";
  const whole = isDevice ? WHOLE : nodes.capacity[node * 3 + number];
  let at = whole - (isDevice ? nodes.devices[node * slots + number] : nodes.free[node * 3 + number]);
  if (at > 0) call(-1, 0, Math.min(at / whole, 1));
  for (let k = placement.starts[node]; k < placement.starts[node + 1]; k++) {
    const task = placement.members[k];
    const amount = isDevice ? (placement.has(task, number) ? tasks.milli[task] : 0) : tasks.demand[task * 3 + number];
    if (!amount) continue;
    call(task, at / whole, (at + amount) / whole);
    at += amount;
  }
}
