"use strict";
// Draws the figures in the colours of the scheme, and again when the scheme, the shown heads or the width change.
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 599px)");
  const hidden = new Set();
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  for (const figure of Object.values(figures)) {
    if (!figure.cells) continue;
    const { names, counts } = figure.cells;
    const totals = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
    const share = (count, line) => (totals[line] ? count / totals[line] : 0);
    figure.data[0].z = counts.map((row, line) => row.map((count) => Math.sqrt(share(count, line))));
    figure.data[0].customdata = counts.map((row, line) =>
      row.map((count, column) => [names[line], names[column], count, percent(share(count, line))]));
  }

  // Values of keys that name a colour are names of CSS variables.
  function coloured(value, key, lookUp) {
    if (typeof value === "string") return /color/i.test(key) && value.startsWith("--") ? lookUp(value) : value;
    if (Array.isArray(value)) {
      const records = value.length > 0 && value[0] !== null && typeof value[0] === "object" && !Array.isArray(value[0]);
      return records || /color/i.test(key) ? value.map((item) => coloured(item, key, lookUp)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, name, lookUp)]));
  }

  // On a phone the matrix keeps the names of its rows alone, for its columns are in the same order.
  function fitMatrix(trace, layout) {
    layout.xaxis.showticklabels = false;
    layout.xaxis.title.text = layout.yaxis.title.text = "";
    const every = Math.ceil(layout.yaxis.tickvals.length / 25);
    layout.yaxis.tickvals = layout.yaxis.tickvals.filter((_, position) => position % every === 0);
    layout.yaxis.ticktext = layout.yaxis.ticktext.filter((_, position) => position % every === 0);
    layout.yaxis.tickfont.size = 8;
    trace.colorbar = { ...trace.colorbar, len: 1, tickangle: 0 };
  }

  // What is not on show has no size to be drawn in.
  function draw() {
    const computed = getComputedStyle(root);
    const lookUp = (name) => computed.getPropertyValue(name).trim();
    for (const [name, figure] of Object.entries(figures)) {
      if (document.getElementById(name).offsetParent === null) continue;
      const data = figure.data.map((trace) => (
        { ...coloured(trace, "", lookUp), visible: !hidden.has(trace.legendgroup) }));
      const layout = coloured(figure.layout, "", lookUp);
      layout.dragmode = window.matchMedia("(pointer: coarse)").matches ? false : "zoom";
      if (figure.cells && narrow.matches) fitMatrix(data[0], layout);
      if (data.filter((trace) => trace.name && trace.visible).length > figure.few) {
        layout.hovermode = "closest";
        for (const trace of data) {
          if (trace.name) trace.hovertemplate = `<b>${trace.name}</b><br>${trace.hovertemplate}<extra></extra>`;
        }
      }
      Plotly.react(name, data, layout, { displayModeBar: false, responsive: true });
    }
  }

  const toggle = document.getElementById("scheme");
  const isDark = () => (root.dataset.scheme || (prefersDark.matches ? "dark" : "light")) === "dark";
  function nameToggle() {
    toggle.textContent = isDark() ? "Light colours" : "Dark colours";
  }
  toggle.addEventListener("click", () => {
    root.dataset.scheme = isDark() ? "light" : "dark";
    nameToggle();
    draw();
  });
  toggle.hidden = false;
  nameToggle();

  const buttons = [...document.querySelectorAll("button[data-head]")];
  const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
  const first = new Set(buttons.filter(isPressed).map((button) => button.dataset.head));
  function show(head, shown) {
    if (shown) hidden.delete(head);
    else hidden.add(head);
    for (const button of buttons) if (button.dataset.head === head) button.setAttribute("aria-pressed", String(shown));
    for (const guesses of document.querySelectorAll(`[data-guesses="${head}"]`)) guesses.hidden = !shown;
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      show(button.dataset.head, !isPressed(button));
      draw();
    });
    button.disabled = false;
    show(button.dataset.head, isPressed(button));
  }
  for (const button of document.querySelectorAll("button[data-show]")) {
    const { show: which } = button.dataset;
    button.addEventListener("click", () => {
      for (const { dataset: { head } } of buttons) show(head, which === "all" || (which === "first" && first.has(head)));
      draw();
    });
    button.disabled = false;
  }

  const confused = document.getElementById("confused");
  function choose() {
    for (const { value } of confused.options) document.getElementById(value).hidden = value !== confused.value;
  }
  if (confused) {
    confused.addEventListener("change", () => { choose(); draw(); });
    confused.closest("p").hidden = false;
    choose();
  }

  // The edge fades beyond which there is more.
  for (const part of document.querySelectorAll(".scroll, .contents ul")) {
    const fade = () => {
      const beyond = part.classList.toggle("beyond", part.scrollWidth - part.clientWidth - part.scrollLeft > 2);
      part.classList.toggle("fits", !beyond);
    };
    part.addEventListener("scroll", fade, { passive: true });
    new ResizeObserver(fade).observe(part);
  }

  // The contents say which section is read.
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const read = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const { id } = target.querySelector("h2");
      if (isIntersecting) read.add(id);
      else read.delete(id);
    }
    const current = [...links.keys()].find((id) => read.has(id));
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-25% 0px -70% 0px" });
  for (const id of links.keys()) watcher.observe(document.getElementById(id).closest("section"));

  prefersDark.addEventListener("change", () => { nameToggle(); draw(); });
  narrow.addEventListener("change", draw);
  draw();
})();
