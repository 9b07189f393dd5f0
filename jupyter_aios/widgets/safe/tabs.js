// ------------------------------------------------------------------ one pane of several

class Tabs {
  constructor(label, panes, choose) {
    this.panes = panes;
    this.choose = choose;
    this.list = element("div", "aios-safe-tabs");
    this.list.setAttribute("role", "tablist");
    this.list.setAttribute("aria-label", label);
    this.tabs = panes.map((pane, k) => this.make(pane, k));
    this.list.append(...this.tabs);
    this.open(0);
  }

  make(pane, k) {
    const { panes } = this;
    const tab = button("", "", () => this.open(k));
    tab.setAttribute("role", "tab");
    tab.id = `aios-safe-${Math.random().toString(36).slice(2)}`;
    tab.append(element("span", "", pane.title), element("span", "aios-safe-count"));
    tab.onKey = (key) => {
      const to = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: panes.length - 1 }[key];
      if (to === undefined) return false;
      this.open((to + panes.length) % panes.length);
      this.tabs[this.at].focus();
      return true;
    };
    pane.element.setAttribute("role", "tabpanel");
    pane.element.setAttribute("aria-labelledby", tab.id);
    pane.element.id = `${tab.id}-pane`;
    pane.element.tabIndex = 0; // it scrolls
    tab.setAttribute("aria-controls", pane.element.id);
    return tab;
  }

  open(at) {
    this.at = at;
    this.tabs.forEach((tab, k) => {
      tab.setAttribute("aria-selected", k === at);
      tab.tabIndex = k === at ? 0 : -1;
      this.panes[k].element.hidden = k !== at;
    });
    this.choose(this.panes[at]);
  }

  count() {
    this.tabs.forEach((tab, k) => setText(tab.lastChild, `${this.panes[k].count}`));
  }
}
