// ------------------------------------------------------------------ what ranks print
// A bounded list of lines per tab, of which the page holds only those in sight.

const MOST_LINES = 5000;
const LINE_HEIGHT = 17;
const SPARE = 8;
const GROWN_LINES = 11;
const MOST_TABS = 9;
const MOST_PARTIALS = 8;

class Lines {
  constructor() {
    this.kept = [];
    this.dropped = 0; // before the first that is kept
  }

  push(line) {
    this.kept.push(line);
    // Letting go of many at once costs less than of one each time.
    if (this.kept.length > MOST_LINES * 1.2) {
      const many = this.kept.length - MOST_LINES;
      this.kept.splice(0, many);
      this.dropped += many;
    }
  }
}

class Output {
  constructor(choose) {
    this.choose = choose; // is told which rank's tab is open; null is all
    this.tab = "all";
    this.styles = new Map();
    this.rows = new Map();
    this.isSticking = true;
    this.element = element("div", "aios-output");
    this.bar = element("div", "aios-bar");
    this.tabs = element("div", "aios-tabs");
    this.tabs.setAttribute("role", "tablist");
    this.tabs.setAttribute("aria-label", "output of ranks");
    this.about = element("span", "aios-about");
    this.copyButton = button("copy", "copy the lines of this tab", () => this.copy());
    this.bar.append(this.tabs, this.about, this.copyButton);
    this.pane = element("div", "aios-pane");
    this.pane.tabIndex = 0;
    this.pane.setAttribute("role", "log");
    this.pane.setAttribute("aria-live", "off");
    this.pane.setAttribute("aria-label", "output");
    this.space = element("div", "aios-space");
    this.sheet = element("div", "aios-sheet");
    this.space.append(this.sheet);
    this.pane.append(this.space);
    this.follow = button("↓ newest", "go to the newest line", () => {
      this.isSticking = true;
      this.schedule();
    });
    this.follow.classList.add("aios-follow");
    this.follow.hidden = true;
    const frame = element("div", "aios-frame");
    frame.append(this.pane, this.follow);
    this.element.append(this.bar, frame);
    this.pane.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.sizes = new ResizeObserver(() => this.schedule());
    this.sizes.observe(this.pane);
    this.clear();
  }

  clear() {
    this.lists = new Map([["all", new Lines()]]);
    this.partials = {};
    this.isCut = false;
    this.styles.clear();
    this.forget();
    this.schedule();
  }

  // The ranks are known from the first message on and do not change.
  setRanks(count) {
    if (count === this.ranks) return;
    this.ranks = count;
    this.tabs.replaceChildren();
    if (count <= 1) return;
    const names = ["all", ...Array(count).keys()];
    if (count <= MOST_TABS) {
      for (const name of names) this.tabs.append(this.makeTab(String(name)));
      return;
    }
    const select = document.createElement("select");
    select.setAttribute("aria-label", "output of rank");
    for (const name of names) {
      select.append(new Option(name === "all" ? "all ranks" : `rank ${name}`, String(name)));
    }
    select.addEventListener("change", () => this.open(select.value));
    this.tabs.append(select);
  }

  makeTab(name) {
    const tab = button(name, name === "all" ? "output of all ranks" : `output of rank ${name}`, () =>
      this.open(name),
    );
    tab.dataset.tab = name;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", name === this.tab);
    tab.tabIndex = name === this.tab ? 0 : -1;
    tab.onKey = (key) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (!step) return false;
      const all = [...this.tabs.children];
      const next = all[(all.indexOf(tab) + step + all.length) % all.length];
      next.focus();
      next.click();
      return true;
    };
    return tab;
  }

  open(name) {
    this.tab = name;
    for (const tab of this.tabs.querySelectorAll("[role=tab]")) {
      const isOpen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", isOpen);
      tab.tabIndex = isOpen ? 0 : -1;
    }
    this.isSticking = true;
    this.forget();
    this.schedule();
    this.choose(name === "all" ? null : Number(name));
  }

  // Rows belong to the tab that was open.
  forget() {
    this.sheet.replaceChildren();
    this.rows.clear();
  }

  list(name) {
    let list = this.lists.get(name);
    if (!list) this.lists.set(name, (list = new Lines()));
    return list;
  }

  // Takes lines as [rank or null, kind, text].
  take(lines, skipped, partials) {
    this.isCut ||= skipped > 0;
    if (skipped) {
      const text = `… ${skipped.toLocaleString("en")} lines went by; all of them: ${this.wholeLog}`;
      this.list("all").push({ rank: null, kind: "note", pieces: [[text, PLAIN]] });
    }
    for (const [rank, kind, text] of lines) {
      const before = kind ? PLAIN : this.styles.get(rank) || PLAIN;
      const [pieces, after] = parseAnsi(text, before);
      if (!kind && after !== before) this.styles.set(rank, after);
      const line = { rank, kind, pieces };
      this.list("all").push(line);
      if (rank !== null) this.list(String(rank)).push(line);
      else for (let one = 0; one < Math.min(this.ranks, 64); one++) this.list(String(one)).push(line);
    }
    this.partials = partials;
    this.schedule();
  }

  openPartials() {
    if (this.tab !== "all") {
      const text = this.partials[this.tab];
      return text ? [[Number(this.tab), text]] : [];
    }
    const all = Object.entries(this.partials).slice(0, MOST_PARTIALS);
    return all.map(([rank, text]) => [rank === "None" ? null : Number(rank), text]);
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.pane;
    this.isSticking = scrollHeight - scrollTop - clientHeight < LINE_HEIGHT;
    this.schedule();
  }

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.element.isConnected) this.draw();
    });
  }

  draw() {
    const list = this.list(this.tab);
    const partials = this.openPartials();
    const count = list.kept.length;
    const total = count + partials.length;
    // Someone who reads above keeps the place while old lines go.
    if (this.shownTab === this.tab && !this.isSticking && list.dropped > this.dropped) {
      this.pane.scrollTop -= (list.dropped - this.dropped) * LINE_HEIGHT;
    }
    this.dropped = list.dropped;
    this.shownTab = this.tab;
    this.space.style.height = `${total * LINE_HEIGHT}px`;
    this.fit(total);
    if (this.isSticking) this.pane.scrollTop = this.pane.scrollHeight;
    this.element.hidden = false;
    const inSight = Math.ceil(this.pane.clientHeight / LINE_HEIGHT);
    const top = Math.floor(this.pane.scrollTop / LINE_HEIGHT);
    const begin = Math.max(Math.min(top, total - inSight) - SPARE, 0);
    const end = Math.min(begin + inSight + 2 * SPARE, total);
    this.showRows(list, begin, end, partials);
    this.follow.hidden = this.isSticking;
    this.tell(list, total);
  }

  // The pane grows with its lines, up to what the style says; who drags its corner decides.
  fit(total) {
    const { style } = this.pane;
    this.mostRows = Math.max(this.mostRows || 3, Math.min(total + 1, GROWN_LINES));
    if (style.height !== (this.fitted || "")) return;
    const height = this.mostRows < GROWN_LINES ? `${this.mostRows * LINE_HEIGHT}px` : "";
    if (height !== style.height) this.fitted = style.height = height;
  }

  showRows(list, begin, end, partials) {
    const count = list.kept.length;
    for (const [number, row] of this.rows) {
      const at = number - list.dropped;
      if (at < begin || at >= Math.min(end, count) || number < 0) {
        row.remove();
        this.rows.delete(number);
      }
    }
    this.sheet.style.transform = `translateY(${begin * LINE_HEIGHT}px)`;
    let next = this.sheet.firstChild;
    for (let at = begin; at < Math.min(end, count); at++) {
      const number = list.dropped + at;
      const row = this.rows.get(number);
      if (row) {
        next = row.nextSibling;
        continue;
      }
      const made = this.makeRow(list.kept[at]);
      this.rows.set(number, made);
      this.sheet.insertBefore(made, next);
    }
    partials.forEach(([rank, text], i) => {
      if (count + i < begin || count + i >= end) return;
      const [pieces] = parseAnsi(text, this.styles.get(rank) || PLAIN);
      const row = this.makeRow({ rank, kind: "", pieces });
      row.classList.add("aios-partial");
      this.rows.set(-1 - i, row);
      this.sheet.append(row);
    });
  }

  makeRow({ rank, kind, pieces }) {
    const row = element("div", kind ? `aios-line aios-${kind}` : "aios-line");
    if (this.tab === "all" && this.ranks > 1 && rank !== null) {
      const prefix = element("span", "aios-prefix", `[${rank}] `);
      prefix.style.color = `var(--aios-c${rank % 10})`;
      row.append(prefix);
    }
    for (const [text, style] of pieces) row.append(styledSpan(text, style));
    return row;
  }

  tell(list, total) {
    const isCut = list.dropped > 0 || this.isCut;
    setText(
      this.about,
      total === 0
        ? "no output yet"
        : isCut ? `only the last lines are here; all: ${this.wholeLog}` : "",
    );
    this.copyButton.hidden = total === 0;
    this.pane.hidden = total === 0;
  }

  async copy() {
    const lines = this.list(this.tab).kept.map(({ rank, pieces }) => {
      const prefix = this.tab === "all" && this.ranks > 1 && rank !== null ? `[${rank}] ` : "";
      return prefix + pieces.map(([text]) => text).join("");
    });
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      setText(this.copyButton, "copied");
    } catch {
      setText(this.copyButton, "not allowed");
    }
    setTimeout(() => setText(this.copyButton, "copy"), 1500);
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.sizes.disconnect();
  }
}
