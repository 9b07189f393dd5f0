// ------------------------------------------------------------------ drawing nodes
// Three levels of detail by the width of a tile on the screen: a cell that says how full the node
// is, bars, and bars with names.

const CELL_PX = 15;
const NAMES_PX = 84;

const detailAt = (scale) => (TILE * scale < CELL_PX ? "cells" : TILE * scale < NAMES_PX ? "bars" : "names");

class Painter {
  constructor(scene, theme, tones) {
    this.scene = scene;
    this.theme = theme;
    this.tones = tones;
    this.brightTasks = null; // a mask of those that are not faded, or null for all
    this.brightNodes = null;
  }

  isBright(task, node) {
    if (!this.brightTasks) return true;
    return task >= 0 ? this.brightTasks[task] === 1 : this.brightNodes[node] === 1;
  }

  // Draws what lies in a rectangle of the map, whose left top corner is (x, y) in pixels at this
  // scale; `ratio` is how many of them make one of the page's.
  paint(context, layout, placement, scale, ratio, x, y, width, height) {
    context.fillStyle = this.theme.groundText;
    context.fillRect(0, 0, width, height);
    const detail = detailAt(scale / ratio);
    const nodes = [];
    layout.eachIn(x / scale, y / scale, width / scale, height / scale, (node) => nodes.push(node));
    if (detail === "cells") this.paintCells(context, layout, placement, nodes, scale, x, y);
    else this.paintTiles(context, layout, placement, nodes, scale, ratio, x, y, detail === "names");
  }

  // Not a part of what is drawn once: a heading stays at the left edge.
  paintHeadings(context, layout, scale, ratio, x, y, height) {
    const room = layout.heading * scale;
    if (room < 9 * ratio) return;
    const size = Math.min(Math.max(room * 0.72, 9 * ratio), 12.5 * ratio);
    context.font = `${size}px ${this.theme.font}`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillStyle = this.theme.faintInk;
    for (const { label, top } of layout.groups) {
      const at = (top + layout.heading / 2) * scale - y;
      if (at > -size && at < height + size) context.fillText(label, Math.max(SPACE * scale - x, 6 * ratio), at);
    }
  }

  paintCells(context, layout, placement, nodes, scale, x, y) {
    const byColour = new Map();
    const { heat, fadedHeat } = this.tones;
    const wide = Math.max(TILE * scale, 1);
    // A pixel between cells, or none: gaps that are rounded one by one would look like a pattern.
    const gap = (TILE + SPACE) * scale >= 5 ? 1 : 0;
    for (const node of nodes) {
      const step = Math.round(Math.min(Math.max(this.scene.load(node, placement), 0), 1) * 16);
      const isBright = !this.brightTasks || this.hasBright(placement, node);
      const colour = (isBright ? heat : fadedHeat)[step];
      if (!byColour.has(colour)) byColour.set(colour, []);
      byColour.get(colour).push(node);
    }
    for (const [colour, those] of byColour) {
      context.fillStyle = colour;
      for (const node of those) {
        const left = Math.round(layout.left[node] * scale - x);
        const top = Math.round(layout.top[node] * scale - y);
        const right = Math.round((layout.left[node] + TILE + SPACE) * scale - x) - gap;
        const bottom = Math.round((layout.top[node] + layout.heights[node] + SPACE) * scale - y) - gap;
        context.fillRect(left, top, Math.max(right - left, 1), Math.max(bottom - top, 1));
      }
    }
    context.fillStyle = this.theme.warning;
    for (const node of nodes) {
      if (!(this.scene.nodes.flags[node] & DRAINED)) continue;
      const size = Math.max(wide / 3, 1);
      context.fillRect(layout.left[node] * scale - x, layout.top[node] * scale - y, size, size);
    }
  }

  hasBright(placement, node) {
    if (this.brightNodes[node]) return true;
    for (let k = placement.starts[node]; k < placement.starts[node + 1]; k++) {
      if (this.brightTasks[placement.members[k]]) return true;
    }
    return false;
  }

  paintTiles(context, layout, placement, nodes, scale, ratio, x, y, hasNames) {
    const { theme, tones, scene } = this;
    this.paintGrounds(context, layout, nodes, scale, x, y);
    // All of one colour together: changing the colour costs more than a rectangle.
    const lanes = [];
    const others = [];
    const parts = tones.colours.map(() => []);
    const faded = tones.colours.map(() => []);
    const names = [];
    const leastName = 26 * ratio;
    for (const node of nodes) {
      // Rounded within the tile, so that equal tiles look equal.
      const left = Math.round(layout.left[node] * scale - x);
      const top = Math.round(layout.top[node] * scale - y);
      eachLane(scene, node, hasNames ? "names" : "bars", (kind, number, laneX, laneY, laneWidth, laneHeight) => {
        const from = left + Math.round(laneX * scale);
        const at = top + Math.round(laneY * scale);
        const high = Math.max(top + Math.round((laneY + laneHeight) * scale) - at, 1);
        const wide = Math.round(laneWidth * scale);
        const canName = hasNames && high >= (laneHeight === BAR ? 10 : 14) * ratio;
        lanes.push(from, at, wide, high);
        eachPart(scene, placement, node, kind, number, (task, begin, end) => {
          const begins = Math.round(from + begin * wide);
          let across = Math.round(from + end * wide) - begins;
          if (across > 4) across -= 1; // a hair between neighbours
          if (across < 1) across = 1;
          if (task < 0) others.push(begins, at, across, high);
          else (this.isBright(task, node) ? parts : faded)[tones.of[task]].push(begins, at, across, high);
          if (canName && task >= 0 && across >= leastName) names.push(task, node, begins, at, across, high);
        });
      });
    }
    fillAll(context, theme.empty, lanes);
    fillAll(context, theme.others, others);
    if (hasNames) hatchAll(context, theme.groundText, others, ratio);
    faded.forEach((rectangles, k) => fillAll(context, tones.faded[k], rectangles));
    parts.forEach((rectangles, k) => fillAll(context, tones.colours[k], rectangles));
    if (!hasNames) return;
    this.paintNames(context, names, scale, ratio);
    for (const node of nodes) this.paintTitle(context, layout, node, scale, ratio, x, y);
  }

  paintGrounds(context, layout, nodes, scale, x, y) {
    const { theme, scene } = this;
    const draw = (those, line) => {
      context.fillStyle = theme.tile;
      context.strokeStyle = line;
      context.lineWidth = 1;
      for (const node of those) {
        const left = Math.round(layout.left[node] * scale - x) + 0.5;
        const top = Math.round(layout.top[node] * scale - y) + 0.5;
        const wide = Math.round(TILE * scale) - 1;
        const high = Math.round(layout.heights[node] * scale) - 1;
        context.fillRect(left, top, wide, high);
        context.strokeRect(left, top, wide, high);
      }
    };
    const flags = scene.nodes.flags;
    draw(nodes.filter((node) => !flags[node]), theme.border);
    context.setLineDash([4, 3]);
    draw(nodes.filter((node) => flags[node] === VIRTUAL), theme.faintInk);
    context.setLineDash([]);
    draw(nodes.filter((node) => flags[node] & DRAINED), theme.warning);
  }

  paintNames(context, names, scale, ratio) {
    const { tones, scene } = this;
    const size = Math.min(BAR * scale * 0.8, 12 * ratio);
    context.font = `${size}px ${this.theme.font}`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    for (let k = 0; k < names.length; k += 6) {
      const [task, node, left, top, wide, high] = names.slice(k, k + 6);
      context.fillStyle = this.isBright(task, node) ? tones.inks[tones.of[task]] : this.theme.faintInk;
      const text = shorten(context, scene.tasks.names[task], wide - 6 * ratio, size);
      if (text) context.fillText(text, left + 3 * ratio, top + high / 2 + 0.5);
    }
  }

  paintTitle(context, layout, node, scale, ratio, x, y) {
    const { theme, scene } = this;
    const { flags, names } = scene.nodes;
    const size = Math.min(11 * scale, 12.5 * ratio);
    const isVirtual = flags[node] & VIRTUAL;
    const middle = (layout.top[node] + TITLE / 2) * scale - y;
    const left = (layout.left[node] + PAD) * scale - x;
    const right = (layout.left[node] + TILE - PAD) * scale - x;
    context.font = `${size * 0.9}px ${theme.font}`;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const isDrained = flags[node] & DRAINED;
    context.fillStyle = isDrained ? theme.warning : theme.faintInk;
    const mark = isDrained ? "drained" : isVirtual ? "virtual" : scene.modelOf(node);
    const room = (right - left) * 0.45;
    const shown = shorten(context, mark, room, size * 0.9);
    context.fillText(shown, right, middle);
    const rest = right - left - (shown ? context.measureText(shown).width + 6 * ratio : 0);
    context.font = `${isVirtual ? "italic " : ""}${size}px ${theme.font}`;
    context.textAlign = "left";
    context.fillStyle = this.brightNodes && !this.brightNodes[node] ? theme.faintInk : theme.inkText;
    context.fillText(shorten(context, names[node], rest, size), left, middle);
  }
}

function fillAll(context, colour, rectangles) {
  if (!rectangles.length) return;
  context.fillStyle = colour;
  for (let k = 0; k < rectangles.length; k += 4) {
    context.fillRect(rectangles[k], rectangles[k + 1], rectangles[k + 2], rectangles[k + 3]);
  }
}

// What others hold is hatched, so that it is no task's colour.
function hatchAll(context, colour, rectangles, ratio) {
  if (!rectangles.length) return;
  context.save();
  context.beginPath();
  for (let k = 0; k < rectangles.length; k += 4) context.rect(...rectangles.slice(k, k + 4));
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = ratio;
  context.globalAlpha = 0.55;
  context.beginPath();
  for (let k = 0; k < rectangles.length; k += 4) {
    const [left, top, wide, high] = rectangles.slice(k, k + 4);
    for (let at = -high; at < wide; at += 5 * ratio) {
      context.moveTo(left + at, top + high);
      context.lineTo(left + at + high, top);
    }
  }
  context.stroke();
  context.restore();
}

// Returns as much of a text as fits, with an ellipsis; nothing where hardly anything does. The
// measure is taken once: letters of one font differ little.
function shorten(context, text, room, size) {
  if (!text || room < size * 1.4) return "";
  if (text.length * size * 0.45 < room && context.measureText(text).width <= room) return text;
  const wide = context.measureText(text).width;
  if (wide <= room) return text;
  const count = Math.floor((text.length * (room - size * 0.7)) / wide);
  return count > 1 ? `${text.slice(0, count)}…` : "";
}
