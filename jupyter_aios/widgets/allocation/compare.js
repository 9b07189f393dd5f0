// ------------------------------------------------------------------ policies side by side

const THUMB = { width: 168, height: 84 };

// An amount and its unit stay on one line.
const joined = (text) => text.replace(/ (%|s|GPUs?)(?= |$)/g, "\u00a0$1");

class Comparison {
  constructor(choose) {
    this.choose = choose;
    this.element = element("div", "aios-compare");
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "the same problem by other policies");
    this.element.hidden = true;
  }

  take(scene) {
    this.scene = scene;
    const shown = scene.placements.filter((one) => one.kind !== "before");
    this.element.hidden = shown.length < 2;
    this.thumbs = this.element.hidden ? [] : shown.map((placement) => this.makeThumb(placement));
    this.element.replaceChildren(...this.thumbs.map((thumb) => thumb.button));
  }

  makeThumb(placement) {
    const total = this.scene.tasks.count;
    const made = button("", "", () => this.choose(placement));
    made.classList.add("aios-thumb");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    const placed = `${placement.placed.toLocaleString("en")} of ${total.toLocaleString("en")} placed`;
    const gap = placement.gap ? `gap ${placement.gap}` : "no bound";
    made.append(
      canvas,
      element("span", "aios-thumb-name", placement.name),
      element("span", "aios-thumb-value", joined(`${placement.value} · ${gap}`)),
      element("span", "aios-quiet", joined(`${placed} · ${placement.time}`)),
    );
    made.title = `show what ${placement.name} makes of it`;
    return { button: made, canvas, placement };
  }

  mark(placement) {
    for (const thumb of this.thumbs || []) thumb.button.setAttribute("aria-pressed", thumb.placement === placement);
  }

  // One in each frame: with 100,000 tasks a single one takes long enough.
  draw(painter, ratio) {
    cancelAnimationFrame(this.frame);
    const waiting = [...(this.thumbs || [])];
    if (!waiting.length) return;
    const layout = new Layout(this.scene, THUMB.width, THUMB.height);
    const scale = Math.min(THUMB.width / layout.width, THUMB.height / layout.height, 1.2) * ratio;
    const next = () => {
      const { canvas, placement } = waiting.shift();
      canvas.width = THUMB.width * ratio;
      canvas.height = THUMB.height * ratio;
      const context = canvas.getContext("2d", { alpha: false });
      const x = (layout.width * scale - canvas.width) / 2;
      const y = (layout.height * scale - canvas.height) / 2;
      painter.paint(context, layout, placement, scale, ratio, x, y, canvas.width, canvas.height);
      this.frame = waiting.length ? requestAnimationFrame(next) : 0;
    };
    this.frame = requestAnimationFrame(next);
  }

  close() {
    cancelAnimationFrame(this.frame);
  }
}

// ------------------------------------------------------------------ what is left out

class LeftOut {
  constructor(pick) {
    this.pick = pick;
    this.element = element("div", "aios-left");
    this.element.hidden = true;
    this.title = element("span", "aios-left-title");
    this.chips = element("div", "aios-chips");
    this.element.append(this.title, this.chips);
  }

  take(count, groups, groupCount) {
    this.element.hidden = !count;
    setText(this.title, `${plural(count, "task")} left out`);
    const chips = groups.map(({ label, count: times, task, detail }) => {
      const made = button("", `${label}: ${plural(times, "task")}, each ${detail}; why?`, () => this.pick(task));
      made.classList.add("aios-left-chip");
      made.dataset.task = task;
      const swatch = element("span", "aios-swatch aios-dot");
      const many = element("span", "aios-quiet", times > 1 ? `× ${times.toLocaleString("en")}` : "");
      made.append(swatch, element("span", "aios-left-name", label), many);
      return made;
    });
    const rest = groupCount - groups.length;
    if (rest > 0) chips.push(element("span", "aios-quiet", `and ${rest.toLocaleString("en")} more groups`));
    this.chips.replaceChildren(...chips);
  }

  dress(tones) {
    for (const chip of this.chips.querySelectorAll("[data-task]")) {
      chip.firstChild.style.background = tones.colours[tones.of[Number(chip.dataset.task)]];
    }
  }
}
