// ------------------------------------------------------------------ what was picked, and the tip

const MOST_LISTED = 60;
const SILENT_MS = 6000;

class Panel {
  constructor({ ask, pick, closed }) {
    this.ask = ask; // asks the kernel why a task is where it is
    this.pick = pick;
    this.element = element("section", "aios-panel");
    this.element.hidden = true;
    this.element.setAttribute("aria-label", "details");
    this.title = element("b", "aios-panel-title");
    const top = element("div", "aios-panel-top");
    top.append(this.title, button("×", "close the details", closed));
    this.facts = element("dl", "aios-panel-facts");
    this.why = element("div", "aios-why");
    this.why.setAttribute("role", "status");
    this.list = element("div", "aios-panel-list");
    this.element.append(top, this.facts, this.why, this.list);
  }

  hide() {
    this.element.hidden = true;
    this.task = -1;
    clearTimeout(this.waiting);
  }

  open(title, facts) {
    clearTimeout(this.waiting);
    this.element.hidden = false;
    setText(this.title, title);
    this.facts.replaceChildren(
      ...facts.filter(([, text]) => text).flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)]),
    );
    this.why.textContent = "";
    this.list.replaceChildren();
    this.element.scrollTop = 0;
  }

  showTask(scene, placement, task, canExplain) {
    const { tasks, nodes } = scene;
    const node = placement.node[task];
    const before = scene.before ? scene.before.node[task] : -1;
    const devices = describeDevices(placement.devices(task));
    const job = scene.jobOf(task);
    this.open(tasks.names[task], [
      ["needs", describeDemand(scene, task)],
      ["node", node < 0 ? "left out" : nodes.names[node]],
      ["devices", devices],
      ["before", before >= 0 && before !== node ? nodes.names[before] : ""],
      ["job", job === tasks.names[task] ? "" : job],
      ["gang", tasks.gang[task] >= 0 ? tasks.gang_names[tasks.gang[task]] || `gang ${tasks.gang[task]}` : ""],
      ["user", scene.userOf(task)],
      ["priority", `${tasks.priority[task]}`],
    ]);
    this.task = task;
    if (node >= 0) this.list.append(this.link(`All on ${nodes.names[node]}`, { node, task: -1 }));
    if (!canExplain || placement !== scene.answer) return;
    setText(this.why, "asking why…");
    this.waiting = setTimeout(() => setText(this.why, "no answer from the kernel, which is busy or gone"), SILENT_MS);
    this.ask(task);
  }

  explained(task, text) {
    if (task !== this.task) return;
    clearTimeout(this.waiting);
    setText(this.why, text);
  }

  showNode(scene, placement, node) {
    const { nodes, tasks } = scene;
    const free = [nodes.free[node * 3], nodes.free[node * 3 + 1]];
    const mine = placement.members.slice(placement.starts[node], placement.starts[node + 1]);
    for (const i of mine) {
      free[0] -= tasks.demand[i * 3];
      free[1] -= tasks.demand[i * 3 + 1];
    }
    const flags = nodes.flags[node];
    const state = [
      flags & DRAINED ? "drained: takes nothing new" : "",
      flags & VIRTUAL ? "virtual: a part of a machine" : "",
    ];
    const [cpu, memory] = nodes.capacity.subarray(node * 3, node * 3 + 2);
    const of = (format, amount, whole) => (whole ? `${format(Math.max(amount, 0))} of ${format(whole)}` : "");
    this.open(nodes.names[node], [
      ["model", scene.modelOf(node)],
      ["free GPUs", describeFreeGpus(scene, placement, node)],
      ["free CPUs", of(formatMilli, free[0], cpu)],
      ["free memory", of(formatBytes, free[1], memory)],
      ["state", state.filter(Boolean).join(", ")],
      ["labels", nodes.labels?.[node] || ""],
    ]);
    this.task = -1;
    this.list.append(element("div", "aios-panel-count", plural(mine.length, "task")));
    for (const i of mine.slice(0, MOST_LISTED)) {
      this.list.append(this.link(tasks.names[i], { node, task: i }, describeDemand(scene, i)));
    }
    const rest = mine.length - MOST_LISTED;
    if (rest > 0) this.list.append(element("div", "aios-quiet", `and ${rest.toLocaleString("en")} more`));
  }

  showMoves(scene) {
    const { nodes, tasks } = scene;
    this.open(`${plural(scene.moves.length, "task")} moved or stopped`, []);
    this.task = -1;
    for (const { task, source, target } of scene.moves.slice(0, MOST_LISTED * 4)) {
      const way = target < 0 ? `stopped (was on ${nodes.names[source]})`
        : target === source ? `other devices of ${nodes.names[target]}`
        : `${nodes.names[source]} → ${nodes.names[target]}`;
      this.list.append(this.link(tasks.names[task], { node: target < 0 ? source : target, task }, way));
    }
    const rest = scene.moves.length - MOST_LISTED * 4;
    if (rest > 0) this.list.append(element("div", "aios-quiet", `and ${rest.toLocaleString("en")} more`));
  }

  link(text, place, detail = "") {
    const made = button("", "", () => this.pick(place, true));
    made.classList.add("aios-link");
    made.append(element("span", "aios-link-name", text));
    if (detail) made.append(element("span", "aios-quiet", detail));
    return made;
  }
}

function describeFreeGpus(scene, placement, node) {
  const count = scene.deviceCount[node];
  if (!count) return "";
  let whole = 0;
  const parts = [];
  for (let d = 0; d < count; d++) {
    let free = scene.nodes.devices[node * scene.slots + d];
    for (let k = placement.starts[node]; k < placement.starts[node + 1]; k++) {
      const i = placement.members[k];
      if (placement.has(i, d)) free -= scene.tasks.milli[i];
    }
    if (free === WHOLE) whole++;
    else if (free > 0) parts.push(formatMilli(free));
  }
  const said = `${whole} whole of ${count}`;
  return parts.length ? `${said}, and parts of ${parts.slice(0, 8).join(", ")}${parts.length > 8 ? ", …" : ""}` : said;
}

// How much of what is under the mouse is in use: a device, CPU or memory.
function describeLane(scene, placement, { node, kind, device }) {
  if (!kind) return "";
  const column = kind === "memory" ? 1 : 0;
  let used = 0;
  eachPart(scene, placement, node, kind, kind === "device" ? device : column, (_, from, to) => (used += to - from));
  if (kind === "device") return `device ${device}: ${formatMilli(used * WHOLE)} of 1 GPU in use`;
  const whole = scene.nodes.capacity[node * 3 + column];
  const format = column ? formatBytes : formatMilli;
  return `${column ? "memory" : "CPU"}: ${format(used * whole)} of ${format(whole)} in use`;
}

// The lines of the tip: what is under the mouse.
function describePlace(scene, placement, place) {
  const { node, task, device, isOthers } = place;
  const lines = [];
  if (task >= 0) {
    const job = scene.jobOf(task);
    const user = scene.userOf(task);
    lines.push(["b", scene.tasks.names[task]], ["", describeDemand(scene, task)]);
    const who = [job === scene.tasks.names[task] ? "" : job, user, `priority ${scene.tasks.priority[task]}`];
    lines.push(["aios-quiet", who.filter(Boolean).join(" · ")]);
  } else if (isOthers) lines.push(["b", "in use by others"]);
  const model = scene.modelOf(node);
  const devices = task >= 0 ? describeDevices(placement.devices(task)) : device >= 0 ? `${device}` : "";
  const where = `${scene.nodes.names[node]}${model ? ` · ${model}` : ""}`;
  const noun = /\D/.test(devices) ? "devices" : "device";
  lines.push([task >= 0 || isOthers ? "aios-quiet" : "b", devices ? `${where} · ${noun} ${devices}` : where]);
  if (task < 0 && !isOthers) {
    const count = placement.starts[node + 1] - placement.starts[node];
    const what = scene.deviceCount[node] ? "GPU" : "CPU";
    lines.push(["", `${plural(count, "task")} · ${formatPercent(scene.load(node, placement))} of ${what} in use`]);
  }
  const lane = describeLane(scene, placement, place);
  if (lane) lines.push(["aios-quiet", lane]);
  const flags = scene.nodes.flags[node];
  if (flags & DRAINED) lines.push(["aios-warning", "drained: takes nothing new"]);
  if (flags & VIRTUAL) lines.push(["aios-quiet", "virtual: a part of a machine"]);
  return lines;
}
