// ------------------------------------------------------------------ how the job stands

function formatDuration(seconds) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${two((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

class Head {
  constructor(stop) {
    this.element = element("div", "aios-head");
    const first = element("div", "aios-title");
    this.chip = element("span", "aios-chip");
    this.chip.setAttribute("role", "status");
    this.name = element("span", "aios-name");
    this.where = element("span", "aios-where");
    this.stop = button("Stop", "Stop the job", stop);
    this.stop.classList.add("aios-stop");
    this.stop.hidden = true;
    first.append(this.chip, this.name, this.where, this.stop);
    this.facts = element("div", "aios-facts");
    this.parts = {};
    for (const name of ["elapsed", "step", "speed", "left", "reason"]) {
      this.facts.append((this.parts[name] = element("span", `aios-fact aios-${name}`)));
    }
    this.track = element("div", "aios-progress");
    this.track.setAttribute("role", "progressbar");
    this.track.setAttribute("aria-label", "steps done");
    this.done = element("div", "aios-done");
    this.track.append(this.done);
    this.banners = element("div", "aios-banners");
    this.element.append(first, this.facts, this.track, this.banners);
    this.ticking = setInterval(() => this.tick(), 500);
  }

  show(head) {
    this.head = head;
    this.since = performance.now();
    this.chip.dataset.state = head.state;
    setText(this.chip, head.state);
    setText(this.name, head.name);
    const ranks = head.ranks === 1 ? "1 rank" : `${head.ranks} ranks`;
    const where = head.where ? `${ranks} on ${head.where}` : ranks;
    setText(this.where, head.attempt > 1 ? `attempt ${head.attempt} · ${where}` : where);
    const steps = head.total
      ? `step ${formatStep(head.step)} of ${formatStep(head.total)}`
      : head.step ? `step ${formatStep(head.step)}` : "";
    setText(this.parts.step, steps);
    this.parts.step.title = head.how_total && !head.total ? `the end is not known: ${head.how_total}` : "";
    setText(this.parts.speed, head.samples_per_s ? `${formatNumber(head.samples_per_s)} samples/s`
      : head.steps_per_s ? `${formatNumber(head.steps_per_s)} steps/s` : "");
    this.parts.speed.title = head.ranks > 1 && head.samples_per_s ? "all ranks together" : "";
    setText(this.parts.reason, head.hint ? `${head.reason} · hint: ${head.hint}` : head.reason);
    this.parts.reason.title = this.parts.reason.textContent;
    this.stop.hidden = head.is_over || !head.can_stop;
    this.showProgress(head);
    this.tick();
  }

  showProgress({ total, step, how_total: how, is_over: isOver, state }) {
    const hasEnd = total > 0 && (!isOver || state === "succeeded" || step > 0);
    this.track.hidden = !hasEnd;
    if (!hasEnd) return;
    const part = Math.min(step / total, 1);
    this.done.style.transform = `scaleX(${part})`;
    this.track.dataset.state = state;
    this.track.title = `${formatStep(step)} of ${formatStep(total)} steps${how ? `; inferred: ${how}` : ""}`;
    this.track.setAttribute("aria-valuenow", Math.round(part * 100));
    this.track.setAttribute("aria-valuetext", this.track.title);
  }

  // Time goes by here, without a message for each second of it.
  tick() {
    const { head } = this;
    if (!head || !this.element.isConnected) return;
    const passed = (performance.now() - this.since) / 1000;
    const elapsed = head.elapsed_s + (head.is_ticking && !this.isGone ? passed : 0);
    const waits = ["queued", "placed", "preempted"].includes(head.state);
    setText(this.parts.elapsed, (waits ? "waiting " : "") + formatDuration(elapsed));
    const left = head.left_s === null ? null : Math.max(head.left_s - passed, 0);
    setText(this.parts.left, left === null ? "" : `${formatDuration(Math.round(left))} left`);
    this.parts.left.title = head.how_total ? `inferred: ${head.how_total}` : "";
  }

  // The kernel may be gone while the job goes on.
  setGone(isGone) {
    if (Boolean(this.isGone) === isGone || !this.head) return;
    this.isGone = isGone;
    this.warn(this.told || []);
  }

  warn(told) {
    this.told = told;
    const text = "no answer from the kernel, which is busy or gone; the job does not need it";
    const gone = { kind: "gone", rank: null, text, hint: `${this.head.attach} shows the job again` };
    const banners = this.isGone ? [gone, ...told] : told;
    const shown = banners.map(({ kind, rank, text, hint }) => {
      const banner = element("div", `aios-banner aios-banner-${kind}`);
      banner.setAttribute("role", "alert");
      const who = rank === null || rank === undefined || text.includes(`rank ${rank}`) ? "" : `rank ${rank}: `;
      banner.append(element("div", "aios-banner-text", who + withoutAnsi(text)));
      if (hint) banner.append(element("div", "aios-banner-hint", withoutAnsi(hint)));
      return banner;
    });
    const asText = JSON.stringify(banners);
    if (asText === this.warned) return;
    this.warned = asText;
    this.banners.replaceChildren(...shown);
  }

  close() {
    clearInterval(this.ticking);
  }
}
