// ------------------------------------------------------------------ marks upon the map
// What is pointed at, selected or moved, and the headings: drawn in each frame, as they are few.

const MOST_ARROWS = 1500;
const FEW_ARROWS = 30; // more are shown when they are asked for

function drawMarks(map, context, scale, x, y) {
  map.painter.paintHeadings(context, map.layout, scale, map.ratio, x, y, map.canvas.height);
  if (map.placement.kind !== "policy") drawMoves(map, context, scale, x, y, chooseArrows(map));
  if (map.selected) drawMark(map, context, map.selected, scale, x, y, map.theme.brand, 2);
  if (map.hover) drawMark(map, context, map.hover, scale, x, y, map.theme.inkText, 1);
}

// Frames a node, and all that a task has.
function drawMark(map, context, { node, task }, scale, x, y, colour, thick) {
  const { layout, ratio, placement, scene } = map;
  context.strokeStyle = colour;
  context.lineWidth = thick * ratio;
  const where = task >= 0 ? placement.node[task] : node;
  if (where < 0) return;
  const left = layout.left[where] * scale - x;
  const top = layout.top[where] * scale - y;
  context.strokeRect(left, top, TILE * scale, layout.heights[where] * scale);
  const detail = detailAt(map.camera.scale);
  if (task < 0 || detail === "cells") return;
  eachLane(scene, where, detail, (kind, number, laneX, laneY, laneWidth, laneHeight) => {
    eachPart(scene, placement, where, kind, number, (other, from, to) => {
      if (other !== task) return;
      const across = Math.max(laneWidth * (to - from) * scale, 2);
      context.strokeRect(left + (laneX + from * laneWidth) * scale, top + laneY * scale, across, laneHeight * scale);
    });
  });
}

// All moves where they are few or asked for; else those of what is selected or pointed at.
function chooseArrows({ scene, showsMoves, selected, hover }) {
  const { ways } = scene;
  if (showsMoves || ways.length <= FEW_ARROWS) return ways.slice(0, MOST_ARROWS);
  const places = [selected, hover].filter(Boolean);
  if (!places.length) return [];
  return ways.filter(({ task, source, target }) =>
    places.some((place) => (place.task >= 0 ? place.task === task : place.node === source || place.node === target)));
}

function drawMoves({ layout, ratio, theme }, context, scale, x, y, moves) {
  if (!moves.length) return;
  const middle = (node) => [
    (layout.left[node] + TILE / 2) * scale - x,
    (layout.top[node] + layout.heights[node] / 2) * scale - y,
  ];
  context.strokeStyle = context.fillStyle = theme.move;
  context.lineWidth = (moves.length > 60 ? 1 : 1.6) * ratio;
  context.globalAlpha = moves.length > 200 ? 0.35 : 0.65;
  context.beginPath();
  const heads = [];
  for (const { source, target } of moves) {
    const [fromX, fromY] = middle(source);
    const [toX, toY] = middle(target);
    const [byX, byY] = [toX - fromX, toY - fromY];
    // A bow, so that moves to and fro do not lie upon each other.
    const [bendX, bendY] = [fromX + byX / 2 - byY * 0.12, fromY + byY / 2 + byX * 0.12];
    context.moveTo(fromX, fromY);
    context.quadraticCurveTo(bendX, bendY, toX, toY);
    heads.push([toX, toY, Math.atan2(toY - bendY, toX - bendX)]);
  }
  context.stroke();
  const size = Math.min(Math.max(TILE * scale * 0.07, 4 * ratio), 9 * ratio);
  context.beginPath();
  for (const [toX, toY, turn] of heads) {
    context.moveTo(toX, toY);
    context.lineTo(toX - size * Math.cos(turn - 0.45), toY - size * Math.sin(turn - 0.45));
    context.lineTo(toX - size * Math.cos(turn + 0.45), toY - size * Math.sin(turn + 0.45));
    context.closePath();
  }
  context.fill();
  context.globalAlpha = 1;
}
