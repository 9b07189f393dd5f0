// ------------------------------------------------------------------ what there is to show
// Columns as the kernel sent them. A placement says which task is on which node and devices: the
// answer, what was in force before, and what other policies make of it.

const ARRAYS = { i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };
const DRAINED = 1;
const VIRTUAL = 2;
const WHOLE = 1000; // thousandths of a device

function readColumn([kind, at], buffers) {
  const view = buffers[at];
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  if (kind !== "text") return new ARRAYS[kind](bytes);
  const text = new TextDecoder().decode(bytes);
  return text ? text.split("\0") : [];
}

function readColumns(told, buffers) {
  const isKind = (kind) => kind === "text" || kind in ARRAYS;
  const isColumn = (value) => Array.isArray(value) && isKind(value[0]) && Number.isInteger(value[1]);
  return Object.fromEntries(
    Object.entries(told).map(([key, value]) => [key, isColumn(value) ? readColumn(value, buffers) : value]),
  );
}

class Placement {
  constructor(told, nodeCount) {
    Object.assign(this, told);
    const { node } = this;
    // Tasks in the order of their nodes: those of node j are members[starts[j] … starts[j + 1] - 1].
    this.starts = new Int32Array(nodeCount + 1);
    for (let i = 0; i < node.length; i++) if (node[i] >= 0) this.starts[node[i] + 1]++;
    for (let j = 0; j < nodeCount; j++) this.starts[j + 1] += this.starts[j];
    this.members = new Int32Array(this.starts[nodeCount]);
    const next = this.starts.slice(0, nodeCount);
    for (let i = 0; i < node.length; i++) if (node[i] >= 0) this.members[next[node[i]]++] = i;
  }

  has(task, device) {
    return device < 32 ? (this.low[task] >>> device) & 1 : this.high ? (this.high[task] >>> (device - 32)) & 1 : 0;
  }

  devices(task) {
    const found = [];
    for (let device = 0; device < 62; device++) if (this.has(task, device)) found.push(device);
    return found;
  }
}

class Scene {
  constructor(message, buffers) {
    this.nodes = readColumns(message.nodes, buffers);
    this.tasks = readColumns(message.tasks, buffers);
    this.slots = this.nodes.device_slots;
    this.deviceCount = new Uint8Array(this.nodes.count);
    for (let j = 0; j < this.nodes.count; j++) {
      let count = 0;
      for (let d = 0; d < this.slots; d++) if (this.nodes.devices[j * this.slots + d] >= 0) count = d + 1;
      this.deviceCount[j] = count;
    }
    this.placements = message.placements.map((told) => new Placement(readColumns(told, buffers), this.nodes.count));
    this.answer = this.placements[0];
    this.before = this.placements.find((one) => one.kind === "before") || null;
    this.moves = this.before ? this.findMoves() : [];
    this.ways = this.moves.filter(({ source, target }) => target >= 0 && target !== source); // from node to node
  }

  findMoves() {
    const { answer, before } = this;
    const found = [];
    for (let i = 0; i < this.tasks.count; i++) {
      if (before.node[i] < 0) continue;
      const isThere = ["node", "low", "high"].every((key) => before[key]?.[i] === answer[key]?.[i]);
      if (!isThere) found.push({ task: i, source: before.node[i], target: answer.node[i] });
    }
    return found;
  }

  modelOf(node) {
    return this.nodes.models[this.nodes.model[node]] || "";
  }

  jobOf(task) {
    return this.tasks.job_names[this.tasks.job[task]] || this.tasks.names[task];
  }

  userOf(task) {
    return this.tasks.user_names[this.tasks.user[task]] || "";
  }

  // How much is in use of a node's GPUs; of its CPUs where it has none. What others hold counts.
  load(node, placement) {
    const { nodes, tasks, slots } = this;
    const count = this.deviceCount[node];
    let used = 0;
    if (count) {
      let all = 0;
      for (let d = 0; d < count; d++) {
        const free = nodes.devices[node * slots + d];
        if (free < 0) continue;
        used += WHOLE - free;
        all += WHOLE;
      }
      for (let k = placement.starts[node]; k < placement.starts[node + 1]; k++) {
        const i = placement.members[k];
        used += tasks.gpus[i] * tasks.milli[i];
      }
      return used / all;
    }
    const all = nodes.capacity[node * 3];
    used = all - nodes.free[node * 3];
    for (let k = placement.starts[node]; k < placement.starts[node + 1]; k++) {
      used += tasks.demand[placement.members[k] * 3];
    }
    return all ? used / all : 0;
  }
}

// ------------------------------------------------------------------ amounts in words

const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const formatMilli = (milli) => (Math.round(milli) / WHOLE).toLocaleString("en", { maximumFractionDigits: 3 });
const formatPercent = (share) => `${Math.round(share * 100)} %`;

function formatBytes(bytes) {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${Number(value.toPrecision(3))} ${unit}`;
    value /= 1024;
  }
  return `${Number(value.toPrecision(3)).toLocaleString("en")} TiB`;
}

function describeDemand(scene, task) {
  const { tasks } = scene;
  const milli = tasks.gpus[task] * tasks.milli[task];
  const [cpu, memory, disk] = tasks.demand.subarray(task * 3, task * 3 + 3);
  const parts = [];
  if (milli) parts.push(`${formatMilli(milli)} ${milli <= WHOLE ? "GPU" : "GPUs"}`);
  if (cpu) parts.push(`${formatMilli(cpu)} ${cpu <= WHOLE ? "CPU" : "CPUs"}`);
  if (memory) parts.push(formatBytes(memory));
  if (disk) parts.push(`${formatBytes(disk)} of disk`);
  const zone = tasks.zone_names[tasks.zone[task]];
  return (parts.join(", ") || "nothing") + (zone ? ` on ${zone}` : "");
}

function describeDevices(devices) {
  const runs = [];
  for (const device of devices) {
    const last = runs[runs.length - 1];
    if (last && last[1] === device - 1) last[1] = device;
    else runs.push([device, device]);
  }
  return runs.map(([low, high]) => (low === high ? `${low}` : `${low}–${high}`)).join(", ");
}
