// ------------------------------------------------------------------ rows and columns
// Boxes with roles and no <table>: a notebook has rules of its own for those, and a row becomes a
// card where it is narrow, which must not change what it is to a screen reader.

class Sheet {
  // `columns`: [title, share of the width]
  constructor(label, columns) {
    this.columns = columns;
    this.element = element("div", "aios-safe-sheet");
    this.element.setAttribute("role", "table");
    this.element.setAttribute("aria-label", label);
    this.element.style.setProperty("--columns", columns.map(([, share]) => `minmax(0, ${share}fr)`).join(" "));
    const head = element("div", "aios-safe-row aios-safe-head");
    head.setAttribute("role", "row");
    for (const [title] of columns) {
      const cell = element("div", "aios-safe-cell", title);
      cell.setAttribute("role", "columnheader");
      head.append(cell);
    }
    this.body = element("div", "aios-safe-body");
    this.body.setAttribute("role", "rowgroup");
    this.element.append(head, this.body);
    this.rows = [];
  }

  // `rows`: { cells: texts or nodes, details?: node, name: unique, words: what the filter looks at }
  fill(rows) {
    const open = new Set(this.rows.filter(({ isOpen }) => isOpen).map(({ name }) => name));
    const at = this.rows.find(({ opener }) => opener && opener === document.activeElement)?.name;
    this.rows = rows.map((row) => this.make(row, open.has(row.name)));
    this.body.replaceChildren(...this.rows.flatMap(({ element: line, details }) => (details ? [line, details] : [line])));
    this.rows.find(({ name }) => name === at)?.opener.focus({ preventScroll: true });
  }

  make({ cells, details, name, words }, isOpen) {
    const made = { name, words: words.toLowerCase(), isOpen, details: null, opener: null };
    made.element = element("div", "aios-safe-row");
    made.element.setAttribute("role", "row");
    cells.forEach((content, k) => {
      const cell = element("div", "aios-safe-cell");
      cell.setAttribute("role", "cell");
      cell.dataset.title = this.columns[k][0];
      if (k === 0 && details) cell.append(this.opener(made, content));
      else cell.append(content);
      cell.classList.toggle("aios-safe-void", !cell.textContent);
      made.element.append(cell);
    });
    if (details) {
      made.details = element("div", "aios-safe-details");
      made.details.setAttribute("role", "row");
      made.details.id = `aios-safe-${Math.random().toString(36).slice(2)}`;
      const cell = element("div");
      cell.setAttribute("role", "cell");
      cell.append(details);
      made.details.append(cell);
      made.opener.setAttribute("aria-controls", made.details.id);
      this.set(made, isOpen);
    }
    return made;
  }

  opener(made, text) {
    made.opener = button(text, "", () => this.set(made, !made.isOpen));
    made.opener.classList.add("aios-safe-opener");
    return made.opener;
  }

  set(made, isOpen) {
    made.isOpen = isOpen;
    made.opener.setAttribute("aria-expanded", isOpen);
    made.details.hidden = !isOpen;
  }

  // Shows the rows in which every one of the words occurs, and returns how many those are.
  filter(words) {
    let count = 0;
    for (const row of this.rows) {
      const isMeant = words.every((word) => row.words.includes(word));
      count += isMeant;
      row.element.hidden = !isMeant;
      if (row.details) row.details.hidden = !isMeant || !row.isOpen;
    }
    return count;
  }
}
