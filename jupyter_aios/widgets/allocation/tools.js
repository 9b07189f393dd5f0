// ------------------------------------------------------------------ colour, filter, zoom, legend

const FILTERS = "model: user: job: task: node: label: priority: drained unplaced, or a part of a name";

// Returns which tasks and nodes a filter means, or null where it means all. Terms are joined by
// "and": `model:T4`, `user:ada`, `job:llm`, `node:a1`, `task:x`, `priority:5`, `drained`, `unplaced`,
// or a part of a task's, a job's or a node's name.
function readFilter(text, scene, placement) {
  const terms = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!terms.length) return null;
  const { tasks, nodes } = scene;
  const lowered = (scene.lowered ||= {});
  const lower = (key, names) => (lowered[key] ||= names.map((name) => name.toLowerCase()));
  const taskNames = lower("tasks", tasks.names);
  const nodeNames = lower("nodes", nodes.names);
  const jobNames = lower("jobs", tasks.job_names);
  const userNames = lower("users", tasks.user_names);
  const models = lower("models", nodes.models);
  const modelOf = (node) => models[nodes.model[node]] || "";
  const ofNode = {
    model: (node, value) => modelOf(node) === value,
    node: (node, value) => nodeNames[node].includes(value),
    label: (node, value) => (nodes.labels?.[node] || "").toLowerCase().includes(value),
  };
  const ofTask = {
    user: (task, value) => (userNames[tasks.user[task]] || "").includes(value),
    job: (task, value) => (jobNames[tasks.job[task]] || "").includes(value),
    task: (task, value) => taskNames[task].includes(value),
    priority: (task, value) => `${tasks.priority[task]}` === value,
  };
  const tests = terms.map((term) => {
    const [, key, value] = /^(\w+):(.*)$/.exec(term) || [];
    if (ofNode[key]) return { node: (node) => ofNode[key](node, value) };
    if (ofTask[key]) return { task: (task) => ofTask[key](task, value) };
    if (term === "drained") return { node: (node) => (nodes.flags[node] & DRAINED) !== 0 };
    if (term === "unplaced") return { task: (task) => placement.node[task] < 0 };
    return {
      any: true,
      node: (node) => nodeNames[node].includes(term),
      task: (task) => taskNames[task].includes(term) || (jobNames[tasks.job[task]] || "").includes(term),
    };
  });
  return applyTests(tests, scene, placement);
}

function applyTests(tests, scene, placement) {
  const { tasks, nodes } = scene;
  const bright = { tasks: new Uint8Array(tasks.count), nodes: new Uint8Array(nodes.count), taskCount: 0, nodeCount: 0 };
  // A node is meant by what is said of nodes; a term that says something of tasks only means none.
  const nodePasses = tests.map(({ node }) => Uint8Array.from({ length: nodes.count }, (_, j) => (node?.(j) ? 1 : 0)));
  for (let j = 0; j < nodes.count; j++) bright.nodes[j] = nodePasses.every((passes) => passes[j]) ? 1 : 0;
  for (let i = 0; i < tasks.count; i++) {
    const at = placement.node[i];
    const isMeant = tests.every(({ task }, k) => (at >= 0 && nodePasses[k][at]) || task?.(i));
    bright.tasks[i] = isMeant ? 1 : 0;
    bright.taskCount += bright.tasks[i];
  }
  for (const passes of bright.nodes) bright.nodeCount += passes;
  return bright;
}

class Tools {
  constructor(act) {
    this.act = act;
    this.element = element("div", "aios-tools aios-map-tools");
    this.colour = document.createElement("select");
    this.colour.setAttribute("aria-label", "colour tasks by");
    this.colour.addEventListener("change", () => act.colour(this.colour.value));
    this.input = document.createElement("input");
    const example = "filter: a name, model:T4, user:ada, unplaced";
    Object.assign(this.input, { type: "search", placeholder: example, title: FILTERS, spellcheck: false });
    this.input.className = "aios-filter";
    this.input.setAttribute("aria-label", "filter tasks and nodes");
    this.input.addEventListener("input", () => act.filter(this.input.value));
    this.found = element("span", "aios-found");
    this.found.setAttribute("role", "status");
    this.times = element("span", "aios-segments");
    this.times.setAttribute("role", "group");
    this.times.setAttribute("aria-label", "before or after");
    this.before = button("Before", "show what was in force", () => act.time("before"));
    this.after = button("After", "show the new allocation", () => act.time("after"));
    this.moves = button("", "list what moves", () => act.moves());
    this.times.append(this.before, this.after, this.moves);
    const zoom = element("span", "aios-segments");
    zoom.append(
      button("−", "zoom out", () => act.zoom(1 / 1.5)),
      button("+", "zoom in", () => act.zoom(1.5)),
      button("Fit", "show the whole map", () => act.fit()),
    );
    const label = element("label", "aios-smooth", "Colour");
    label.append(this.colour);
    this.element.append(label, this.input, this.found, this.times, zoom);
  }

  take(scene) {
    const { tasks } = scene;
    const differ = (column) => column.length > 0 && column.some((value) => value !== column[0]);
    const modes = [["job", "job"]];
    if (tasks.user_names.length > 1 && differ(tasks.user)) modes.push(["user", "user"]);
    if (differ(tasks.priority)) modes.push(["priority", "priority"]);
    if (differ(gpuSizes(scene))) modes.push(["GPUs asked for", "size"]);
    this.colour.replaceChildren(...modes.map(([text, mode]) => new Option(text, mode)));
    // Where hardly two tasks are of one job, jobs would be a colour each.
    const jobs = new Set(tasks.job).size;
    if (jobs > BASES * SHADES && jobs > tasks.count / 2) this.colour.value = modes[modes.length - 1][1];
    this.times.hidden = !scene.before;
    const count = scene.moves.length;
    setText(this.moves, count ? plural(count, "move") : "No moves");
    this.moves.disabled = !count;
  }

  mark(placement) {
    this.before.setAttribute("aria-pressed", placement.kind === "before");
    this.after.setAttribute("aria-pressed", placement.kind === "answer");
  }
}

class Legend {
  constructor() {
    this.element = element("div", "aios-map-legend");
    this.element.setAttribute("aria-label", "legend");
  }

  show(detail, tones, theme, scene) {
    const entry = (colour, text, kind = "") => {
      const made = element("span", "aios-key");
      const swatch = element("span", `aios-swatch aios-dot ${kind}`);
      swatch.style.background = colour;
      made.append(swatch, element("span", "aios-key-name", text));
      return made;
    };
    const shown = [];
    if (detail === "cells") {
      const ramp = element("span", "aios-ramp");
      ramp.style.background = `linear-gradient(to right, ${tones.heat.join(",")})`;
      const key = element("span", "aios-key");
      const most = element("span", "", "100 % of a node's GPUs in use (CPUs where it has none)");
      key.append(element("span", "", "0 %"), ramp, most);
      shown.push(key);
    } else {
      shown.push(...tones.entries.map(({ colour, text }) => entry(colour, text)));
      if (tones.more > 0) {
        const what = { user: "user", size: "size" }[tones.mode] || "job";
        const again = tones.repeats ? "; colours come again" : "";
        shown.push(element("span", "aios-quiet", `and ${plural(tones.more, `more ${what}`)}${again}`));
      }
      if (hasOthers(scene)) shown.push(entry("", "in use by others", "aios-hatched"));
      shown.push(entry(theme.empty, "free"), element("span", "aios-quiet", describeBars(scene)));
    }
    if (scene.nodes.flags.some((flag) => flag & DRAINED)) shown.push(entry("", "drained node", "aios-drained"));
    this.element.replaceChildren(...shown);
  }
}

function describeBars({ nodes, deviceCount }) {
  const hasMemory = nodes.capacity.some((amount, k) => k % 3 === 1 && amount > 0);
  const lanes = hasMemory ? "CPU, then memory" : "CPU";
  return deviceCount.some((count) => count > 0) ? `below the devices: ${lanes}` : `bars: ${lanes}`;
}

function hasOthers({ nodes }) {
  const isTaken = nodes.devices.some((free) => free >= 0 && free < WHOLE);
  return isTaken || nodes.free.some((free, k) => free < nodes.capacity[k]);
}
