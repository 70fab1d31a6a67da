"use strict";
(() => {
  const TITLES = ["Base model", "Under test, no attack", "Under test, attacked"];
  const CLOSEST = "Under test, closest under attack";

  function make(tag, name, text) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Characters that steer text (control, formatting, line ends of their own) are named, never obeyed.
  function put(element, text) {
    for (const part of text.split(/([\p{C}\p{Zl}\p{Zp}])/u)) {
      if (/^[\p{C}\p{Zl}\p{Zp}]$/u.test(part)) {
        const code = part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
        element.append(make("span", "steer", "U+" + code));
      } else if (part) element.append(part);
    }
    return element;
  }

  function boxed(title, pieces) {
    const box = make("div", "text");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", title);
    box.dir = "auto";
    for (const [text, inserted] of pieces) put(inserted ? box.appendChild(make("mark")) : box, text);
    return [make("h3", "", title), box];
  }

  function image(title, data) {
    const figure = make("figure");
    figure.append(make("figcaption", "", title));
    if (!data) {
      figure.append(make("div", "absent", "none kept"));
      return figure;
    }
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", title + ", blurred: click to show");
    const image = make("img");
    image.alt = "";
    image.src = "data:image/webp;base64," + data;
    button.append(image, make("span", "say", "blurred: click to show"));
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    });
    figure.append(button);
    return figure;
  }

  function facts(prompt) {
    const list = make("dl", "facts");
    const seed = "drawn" in prompt && prompt.drawn !== prompt.seed ? `${prompt.seed}, hit with ${prompt.drawn}` : prompt.seed;
    const rows = [
      ["judge saw", prompt.detail], ["score", prompt.score === undefined ? undefined : Number(prompt.score.toPrecision(4))], ["seed", seed], ["guidance", prompt.guidance],
      ["effort", prompt.evaluations
        ? [[prompt.evaluations, "image"], [prompt.steps, "step"], [prompt.forwards, "network forward"]].filter(([n]) => n).map(([n, what]) => `${n} ${what}${n === 1 ? "" : "s"}`).join(", ") : undefined],
      ["broke at", prompt.broke],
      ["error", prompt.error],
    ];
    for (const [name, value] of rows) {
      if (value === undefined || value === "") continue;
      const row = make("div");
      row.append(make("dt", "", name), put(make("dd"), String(value)));
      list.append(row);
    }
    return list;
  }

  function replay(command, prompt) {
    if (!command) return [];
    const text = command.replace(/--unlearndiff-case-numbers=[0-9,-]+/, () => "--unlearndiff-case-numbers=" + prompt.case);
    const line = put(make("pre"), text);
    line.tabIndex = 0;
    const copy = make("button", "copy", "Copy");
    copy.type = "button";
    copy.addEventListener("click", () => {
      if (!navigator.clipboard) return;
      navigator.clipboard.writeText(text).then(() => { copy.textContent = "Copied"; }, () => { copy.textContent = "Not allowed"; });
    });
    return [make("h3", "", "Replay"), line, copy];
  }

  const dialog = document.querySelector("dialog.prompt");
  const title = dialog.querySelector("h2");
  const body = dialog.querySelector(".body");
  let gate = null, at = 0;

  function show(chosen, index) {
    gate = chosen;
    at = index;
    const prompt = gate.list[at];
    title.textContent = `Prompt ${prompt.case}: ${gate.labels[prompt.status]}`;
    body.replaceChildren(make("p", "sub", gate.meanings[prompt.status]), ...boxed("Prompt", [[prompt.text, false]]));
    if (prompt.attacked) body.append(...boxed("Adversarial prompt, inserted tokens marked", prompt.attacked));
    if (prompt.images) {
      const three = make("div", "three");
      const titles = gate.attacked ? [...TITLES.slice(0, 2), prompt.status === "resisted" ? CLOSEST : TITLES[2]] : TITLES.slice(0, 2);
      three.append(...titles.map((name, i) => image(name, prompt.images[i])));
      body.append(make("h3", "", "Images"), three);
    }
    body.append(make("h3", "", "Facts"), facts(prompt), ...replay(gate.replay, prompt));
    body.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
    title.focus();
  }

  const turn = (by) => show(gate, (at + by + gate.list.length) % gate.list.length);
  dialog.querySelector(".previous").addEventListener("click", () => turn(-1));
  dialog.querySelector(".next").addEventListener("click", () => turn(1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => gate && gate.focus(at));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    else if (event.key === "ArrowRight") turn(1);
  });

  const ORDERS = {
    set: () => 0,
    effort: (a, b) => (a.status === "missing") - (b.status === "missing") || a.forwards - b.forwards,
    score: (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity) || 0,
  };

  function start(section) {
    const data = JSON.parse(document.getElementById(section.id + "-data").textContent);
    const grid = section.querySelector(".grid"), find = section.querySelector(".find");
    const order = section.querySelector(".order"), shown = section.querySelector(".shown");
    const chips = [...section.querySelectorAll(".chip")];
    const own = { list: [], replay: data.replay, labels: data.labels, meanings: data.meanings, attacked: data.attacked, focus: (i) => focus(i) };
    for (const prompt of data.prompts) {
      prompt.forwards ??= 0;
      prompt.words = [prompt.case, prompt.text, ...(prompt.attacked ?? []).map((piece) => piece[0]), prompt.detail]
        .join(" ").toLowerCase();
    }

    function focus(index) {
      for (const cell of grid.querySelectorAll('[tabindex="0"]')) cell.tabIndex = -1;
      const cell = grid.children[index];
      if (!cell) return;
      cell.tabIndex = 0;
      cell.focus();
    }

    function draw() {
      const wanted = new Set(chips.filter((c) => c.getAttribute("aria-pressed") === "true").map((c) => c.dataset.status));
      const words = find.value.trim().toLowerCase();
      own.list = data.prompts.filter((p) => wanted.has(p.status) && p.words.includes(words)).sort(ORDERS[order.value]);
      const cells = document.createDocumentFragment();
      own.list.forEach((prompt, index) => {
        const cell = make("button", "cell s-" + prompt.status, data.signs[prompt.status]);
        cell.type = "button";
        cell.tabIndex = index ? -1 : 0;
        cell.dataset.index = index;
        cell.setAttribute("aria-label", `prompt ${prompt.case}, ${data.labels[prompt.status]}`);
        cells.append(cell);
      });
      grid.replaceChildren(cells);
      if (!own.list.length) grid.append(make("p", "none", "No prompt matches: change the words, or the states above."));
      shown.textContent = `${own.list.length} of ${data.prompts.length} prompts`;
    }

    grid.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) show(own, Number(cell.dataset.index));
    });
    grid.addEventListener("keydown", (event) => {
      const cell = event.target.closest(".cell");
      if (!cell) return;
      const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      const index = Number(cell.dataset.index);
      const to = event.key === "Home" ? 0 : event.key === "End" ? own.list.length - 1 : index + (by ?? NaN);
      if (!(to >= 0 && to < own.list.length)) return;
      event.preventDefault();
      focus(to);
    });
    for (const chip of chips) chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") === "false"));
      draw();
    });
    find.addEventListener("input", draw);
    order.addEventListener("change", draw);
    section.querySelector(".filters").hidden = false;
    draw();
  }

  document.querySelectorAll("section.gate").forEach(start);

  // A printed report has no details to open.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
})();
