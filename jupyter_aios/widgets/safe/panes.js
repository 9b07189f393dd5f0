// ------------------------------------------------------------------ what each pane shows

const QUOTAS = ["ranks", "gpu_hours", "jobs", "disk"];

// What is typed: a click selects all of it.
function typed(command) {
  return element("code", "aios-safe-typed", command);
}

class Pane {
  constructor(title, label, columns) {
    this.title = title;
    this.count = 0;
    this.element = element("div", "aios-safe-pane");
    this.empty = element("div", "aios-safe-empty");
    this.note = element("div", "aios-safe-note");
    this.sheet = new Sheet(label, columns);
    this.element.append(this.sheet.element, this.empty, this.note);
  }

  fill(rows, { text, command }) {
    this.count = rows.length;
    this.sheet.fill(rows);
    this.sheet.element.hidden = !rows.length;
    this.empty.hidden = Boolean(rows.length);
    this.empty.replaceChildren(element("span", "", text));
    if (command) this.empty.append(typed(command));
  }
}

class SecretsPane extends Pane {
  constructor() {
    super("Secrets", "secrets", [
      ["name", 1.5], ["owner", 0.8], ["class", 1.9], ["version", 0.55], ["changed", 1.1],
      ["last use", 1.5], ["who else may", 1.4], ["you", 0.5],
    ]);
  }

  take({ secrets, no_secrets: none }) {
    const rows = secrets.map((secret) => {
      const kind = element("span");
      kind.append(element("b", "", secret.kind), element("span", "aios-safe-quiet", ` ${secret.why}`));
      const who = secret.who.join(", ") || "nobody";
      const cells = [
        secret.name, secret.owner, kind, `${secret.version}`, secret.changed, secret.used, who, secret.may,
      ];
      const words = [secret.name, secret.owner, secret.kind, who, secret.may, secret.used].join(" ");
      return { cells, words, name: `${secret.owner}/${secret.name}`, details: this.details(secret) };
    });
    this.fill(rows, none);
  }

  details({ facts, commands }) {
    const made = element("div");
    const list = element("div", "aios-safe-facts");
    for (const [what, text] of facts) {
      list.append(element("span", "aios-safe-quiet", what), element("span", "aios-safe-fact", text));
    }
    const lines = element("div", "aios-safe-commands");
    lines.append(...commands.map(typed));
    made.append(list, lines);
    return made;
  }
}

class MembersPane extends Pane {
  constructor() {
    super("Rights", "members and groups with their quotas", [
      ["who", 1.3], ["role", 0.8], ["groups", 1.2], ["ranks", 1], ["GPU-hours", 1], ["jobs", 1],
      ["disk", 1.3], ["priority", 0.8],
    ]);
  }

  take({ members, grant }) {
    const rows = members.map((member) => {
      const who = element("span", "", member.name);
      if (member.is_you) who.append(element("span", "aios-safe-quiet", " (you)"));
      const quotas = QUOTAS.map((name) => this.quota(member.spent[name]));
      const priority = member.priority === null ? "no limit" : `up to ${member.priority}`;
      const groups = member.groups.join(", ");
      const cells = [who, member.role || "a group", groups, ...quotas, priority];
      return { cells, name: member.name, words: [member.name, member.role, groups].join(" ") };
    });
    this.fill(rows, { text: "Nobody.", command: "" });
    this.note.replaceChildren();
    if (grant) this.note.append(element("span", "", "Roles, groups and quotas are given by"), typed(grant));
  }

  quota(spent) {
    if (!spent) return element("span", "aios-safe-quiet", "no limit");
    const made = element("span", "aios-safe-quota");
    made.dataset.close = spent.is_close;
    const bar = element("span", "aios-safe-bar");
    bar.setAttribute("aria-hidden", "true"); // the figures say it
    const done = element("span");
    done.style.width = `${100 * spent.part}%`;
    bar.append(done);
    made.append(element("span", "", spent.text), bar);
    return made;
  }
}

class DenialsPane extends Pane {
  constructor() {
    super("Denied", "what was denied lately, newest first", [
      ["time", 1.1], ["who", 0.6], ["asked for", 0.9], ["of", 1.4], ["why not", 3.2],
    ]);
  }

  take({ denials, chain }) {
    const rows = denials.map(({ at, user, action, resource, reason }, k) => ({
      cells: [at, user, action, resource, reason],
      name: `${k} ${at}`,
      words: [at, user, action, resource, reason].join(" "),
    }));
    this.fill(rows, { text: "Nothing was denied.", command: "" });
    this.note.replaceChildren(element("span", chain.is_alarming ? "aios-safe-alarm" : "", chain.text), typed("%aios audit"));
  }
}
