"use strict";

const find = (id) => document.getElementById(id);

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as HTML: a class name is a stranger's
  if (name) made.className = name;
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)} %`;
}

function answer(head) {
  const box = element("article");
  box.append(element("h2", head.head));
  const list = element("ol");
  for (const one of head.classes) {
    const line = element("li");
    line.append(element("span", one.class), element("span", percent(one.probability)));
    const bar = element("div", undefined, "bar");
    const filled = element("span");
    filled.style.width = `${100 * one.probability}%`;
    bar.append(filled);
    line.append(bar);
    list.append(line);
  }
  box.append(list);
  if (head.path && head.path.length > 1) {
    const steps = head.path.map((step) => `${step.name || `node ${step.node}`} ${percent(step.probability)}`);
    box.append(element("p", `Its way through the tree: ${steps.join(" › ")}`, "path"));
  }
  return box;
}

function tell(message, failed) {
  find("verdict").textContent = message;
  find("verdict").className = failed ? "error" : "";
}

let asked = 0; // an answer that comes late, after another question, is not shown

async function ask(body, kind, truth) {
  const mine = ++asked;
  tell("Asking…", false);
  let response;
  let said;
  try {
    response = await fetch("ask", { method: "POST", body, headers: { "Content-Type": kind } });
    said = await response.json();
  } catch {
    if (mine === asked) tell("The demo does not answer. Is it still running?", true);
    return;
  }
  if (mine !== asked) return;
  find("answers").replaceChildren();
  if (!response.ok) {
    tell(said.error, true);
    return;
  }
  find("answers").replaceChildren(...said.heads.map(answer));
  const first = said.heads.map((head) => head.classes[0].class);
  const different = new Set(first);
  const right = truth ? ` It is ${truth}.` : "";
  if (said.heads.length === 1) tell(`It says ${first[0]}.${right}`, false);
  else if (different.size === 1) tell(`All ${said.heads.length} heads say ${first[0]}.${right}`, false);
  else {
    const parts = [...different].map(
      (name) => `${name} (${said.heads.filter((head) => head.classes[0].class === name).map((head) => head.head).join(", ")})`,
    );
    tell(`They disagree: ${parts.join("; ")}.${right}`, false);
  }
}

function show(blob, label) {
  const preview = find("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.alt = label;
  preview.hidden = false;
}

function take(file) {
  if (!file) return;
  show(file, `Your image, ${file.name}`);
  ask(file, "application/octet-stream");
}

async function begin() {
  const about = await (await fetch("about")).json();
  const heads = about.heads.length === 1 ? `the head ${about.heads[0]}` : `${about.heads.length} heads`;
  find("about").textContent = `${about.classes} classes of ${about.data}; ${heads}, trained by softmaxes.`;
  if (about.kind === "image") {
    find("image-part").hidden = false;
    find("file").addEventListener("change", (event) => take(event.target.files[0]));
    const drop = find("drop");
    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });
    find("samples-title").hidden = about.samples.length === 0;
    about.samples.forEach((name, number) => {
      const button = element("button");
      button.type = "button";
      const image = element("img");
      image.src = `sample/${number}`;
      image.alt = `Test image of ${name}`;
      button.append(image);
      button.addEventListener("click", async () => {
        const blob = await (await fetch(image.src)).blob();
        show(blob, image.alt);
        ask(blob, "application/octet-stream", name);
      });
      find("samples").append(button);
    });
  } else {
    find("text-part").hidden = false;
    find("text-part").addEventListener("submit", (event) => {
      event.preventDefault();
      ask(find("text").value, "text/plain; charset=utf-8");
    });
    for (const text of about.samples) {
      const button = element("button", text);
      button.type = "button";
      button.addEventListener("click", () => {
        find("text").value = text;
        ask(text, "text/plain; charset=utf-8");
      });
      find("texts").append(button);
    }
  }
}

begin();
