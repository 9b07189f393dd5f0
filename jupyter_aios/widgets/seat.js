// ------------------------------------------------------------------ where a view sits in a page
// The other side of seat.py. A page keeps one view per model and moves it: into the widget's output
// first, and into the picture's place when that has replaced it. `View` is the class of the widget.

const GREETINGS_MS = [0, 700, 2000, 5000, 10000, 20000, 40000, 80000, 160000];
const SEATED_MS = 1000;
const HANDLED = new Set(["Enter", " ", "Home", "End", "PageUp", "PageDown", "ArrowLeft", "ArrowRight",
  "ArrowUp", "ArrowDown", "+", "=", "-", "0"]);

class SeatedView {
  constructor(model) {
    this.model = model;
    this.id = `v${Math.random().toString(36).slice(2)}`;
    this.number = -1; // of the last message; -1 before the first snapshot
    this.root = element("div", "aios");
    this.root.setAttribute("role", "group");
    this.root.dataset.state = "waiting";
    this.root.dataset.synced = "false";
    this.guardKeys();
    this.keepFocus();
    this.themes = new MutationObserver(() => this.themeChanged());
    for (const node of [document.documentElement, document.body]) {
      this.themes.observe(node, { attributes: true, attributeFilter: ["class", "data-jp-theme-name", "data-theme"] });
    }
  }

  // Notebooks have shortcuts of one key; those that mean something here do not reach them.
  guardKeys() {
    this.onKey = (event) => {
      const at = event.target;
      if (!(at instanceof Element) || !this.root.contains(at)) return;
      if (event.ctrlKey || event.metaKey || event.altKey || !HANDLED.has(event.key)) return;
      if (event.shiftKey && event.key === "Enter") return;
      event.stopImmediatePropagation();
      if (at.onKey && at.onKey(event.key)) event.preventDefault();
    };
    window.addEventListener("keydown", this.onKey, true);
  }

  // Who types in a view that moves into the picture's place goes on typing there.
  keepFocus() {
    this.root.addEventListener("focusin", (event) => (this.focused = event.target));
    this.root.addEventListener("focusout", () => {
      if (this.root.isConnected) setTimeout(() => this.root.isConnected && this.forgetFocus(), 0);
    });
  }

  forgetFocus() {
    if (!this.root.contains(document.activeElement)) this.focused = null;
  }

  restoreFocus() {
    const isNowhere = !document.activeElement || document.activeElement === document.body;
    if (this.focused && isNowhere) this.focused.focus({ preventScroll: true });
  }

  send(content) {
    try {
      this.model.send({ ...content, view: this.id });
    } catch {
      this.setGone();
    }
  }

  greet() {
    const hasLab = Boolean(document.querySelector(".jp-OutputArea, .jp-Notebook"));
    for (const after of GREETINGS_MS) {
      setTimeout(() => {
        if (this.number < 0 && !this.isClosed) this.send({ type: "hello", can_move: hasLab });
      }, after);
    }
  }

  sitDown() {
    this.send({ type: "seated" });
    this.send({ type: "ping" });
  }

  close() {
    this.isClosed = true;
    window.removeEventListener("keydown", this.onKey, true);
    this.themes.disconnect();
    this.root.remove();
  }
}

// The picture of a saved notebook has a place for the view that made it. Where this page still has
// the view, it sits down there.
function takePlaces(model, place) {
  const spots = document.getElementsByClassName(`aios-place-${model.get("place")}`);
  const look = () => {
    for (const spot of spots) if (!spot.dataset.taken) place(spot);
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, { childList: true, subtree: true });
  look();
  return () => observer.disconnect();
}

const views = new Set(); // more than one where a model is shown twice

function spare(model) {
  const free = [...views].find((view) => !view.root.isConnected);
  if (free) return free;
  const view = new View(model);
  views.add(view);
  view.greet();
  return view;
}

function show(model, parent) {
  const view = spare(model);
  view.mount(parent);
  view.restoreFocus();
  return view;
}

export default {
  initialize({ model }) {
    const receive = (message, buffers) => {
      for (const view of views) view.receive(message, buffers);
    };
    model.on("msg:custom", receive);
    spare(model);
    const leave = takePlaces(model, (spot) => {
      spot.dataset.taken = "true";
      spot.replaceChildren();
      show(model, spot);
    });
    return () => {
      leave();
      model.off("msg:custom", receive);
      for (const view of views) view.close();
      views.clear();
    };
  },

  render({ model, el }) {
    el.classList.add("aios-host");
    const view = show(model, el);
    const seating = setTimeout(() => view.sitDown(), SEATED_MS);
    return () => {
      clearTimeout(seating);
      if (view.root.parentNode === el) view.root.remove();
    };
  },
};
