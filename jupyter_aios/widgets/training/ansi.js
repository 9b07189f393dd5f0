// ------------------------------------------------------------------ text with terminal colours
// SGR sequences (16, 256 and true colours, bold, …) become styles; everything else that a terminal
// would obey is dropped. Text only ever arrives in the page by textContent.

const ESCAPES =
  /\x1b\[([0-9;:?<=>]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const PLAIN = Object.freeze({});

function paletteColour(number) {
  if (number < 16) return `var(--aios-${number < 8 ? "" : "bright-"}${NAMES[number % 8]})`;
  if (number >= 232) {
    const grey = 8 + (number - 232) * 10;
    return `rgb(${grey},${grey},${grey})`;
  }
  const part = (value) => (value ? 55 + value * 40 : 0);
  const cube = number - 16;
  return `rgb(${part(Math.floor(cube / 36))},${part(Math.floor(cube / 6) % 6)},${part(cube % 6)})`;
}

const byte = (value) => Math.min(Math.max(value || 0, 0), 255);

// Returns [colour, how many more parameters were read].
function extendedColour(codes, at) {
  if (codes[at + 1] === 5) return [paletteColour(byte(codes[at + 2])), 2];
  if (codes[at + 1] !== 2) return [null, 0];
  const [red, green, blue] = codes.slice(at + 2, at + 5).map(byte);
  return [`rgb(${red},${green || 0},${blue || 0})`, 4];
}

function afterSgr(style, parameters) {
  const codes = parameters.split(/[;:]/).map((text) => parseInt(text, 10) || 0);
  let next = { ...style };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) next = {};
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 7) next.inverse = true;
    else if (code === 9) next.strike = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code === 27) next.inverse = false;
    else if (code === 29) next.strike = false;
    else if (code >= 30 && code <= 37) next.front = paletteColour(code - 30);
    else if (code >= 90 && code <= 97) next.front = paletteColour(code - 82);
    else if (code >= 40 && code <= 47) next.back = paletteColour(code - 40);
    else if (code >= 100 && code <= 107) next.back = paletteColour(code - 92);
    else if (code === 39) next.front = undefined;
    else if (code === 49) next.back = undefined;
    else if (code === 38 || code === 48) {
      const [colour, read] = extendedColour(codes, i);
      if (colour) next[code === 38 ? "front" : "back"] = colour;
      i += read;
    }
  }
  return next;
}

// Returns [[text, style], …] and the style that the next line begins with.
function parseAnsi(text, style) {
  if (!/[\x00-\x08\x0b-\x1f\x7f-\x9f]/.test(text)) return [[[text, style]], style];
  const pieces = [];
  let begin = 0;
  for (const match of text.matchAll(ESCAPES)) {
    if (match.index > begin) pieces.push([text.slice(begin, match.index), style]);
    begin = match.index + match[0].length;
    if (match[2] === "m") style = afterSgr(style, match[1]);
  }
  if (begin < text.length) pieces.push([text.slice(begin), style]);
  return [pieces, style];
}

function withoutAnsi(text) {
  return text.replace(ESCAPES, "");
}

function styledSpan(text, style) {
  const span = document.createElement("span");
  span.textContent = text;
  if (style === PLAIN) return span;
  const front = style.inverse ? style.back || "var(--aios-ground)" : style.front;
  const back = style.inverse ? style.front || "var(--aios-ink)" : style.back;
  if (front) span.style.color = front;
  if (back) span.style.backgroundColor = back;
  if (style.bold) span.style.fontWeight = "bold";
  if (style.italic) span.style.fontStyle = "italic";
  if (style.dim) span.style.opacity = "0.65";
  const lines = [style.underline && "underline", style.strike && "line-through"].filter(Boolean);
  if (lines.length) span.style.textDecoration = lines.join(" ");
  return span;
}
