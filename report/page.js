// What the page can do besides: it can be read without any of this. Nothing here makes markup.
"use strict";
(() => {
  const files = document.getElementById("files");
  const tools = document.getElementById("tools");

  // What is linked to is opened, with all that it lies in.
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let e = target; e; e = e.parentElement) {
      if (e.localName === "details") e.open = true;
    }
    const own = target.querySelector(":scope > details");
    if (own) {
      own.open = true;
      own.firstElementChild.focus({ preventScroll: true });
    }
    target.scrollIntoView({ block: "start" });
  };
  addEventListener("hashchange", reveal);
  addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a");
    if (link && link.hash && link.hash === location.hash) reveal();
  });
  if (location.hash) reveal();

  // Paper does not unfold: as much as is of use there is open on it.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].slice(0, 500);
    for (const d of opened) d.open = true;
  });
  addEventListener("afterprint", () => {
    for (const d of opened) d.open = false;
    opened = [];
  });

  if (!tools) return;
  tools.hidden = false;
  const filter = document.getElementById("filter");
  const found = document.getElementById("found");

  const folders = () => files.querySelectorAll(".d > details");
  document.getElementById("unfold").addEventListener("click", () => {
    for (const d of folders()) d.open = true;
  });
  document.getElementById("fold").addEventListener("click", () => {
    for (const d of folders()) d.open = false;
  });

  // The arrow keys, as in any tree.
  const shown = (e) => !e.closest("[hidden]") && !e.parentElement.parentElement.closest("details:not([open])");
  files.addEventListener("keydown", (event) => {
    const here = event.target;
    if (here.localName !== "summary" || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const item = here.parentElement;
    const all = files.querySelectorAll("summary");
    const step = (from, by) => {
      for (let i = from; i >= 0 && i < all.length; i += by) {
        if (shown(all[i])) return all[i].focus();
      }
    };
    const at = () => Array.prototype.indexOf.call(all, here);
    switch (event.key) {
      case "ArrowDown": step(at() + 1, 1); break;
      case "ArrowUp": step(at() - 1, -1); break;
      case "Home": step(0, 1); break;
      case "End": step(all.length - 1, -1); break;
      case "ArrowRight":
        if (item.open) step(at() + 1, 1);
        else item.open = true;
        break;
      case "ArrowLeft":
        if (item.open) item.open = false;
        else {
          const up = item.parentElement.closest("details");
          if (up && files.contains(up)) up.firstElementChild.focus();
        }
        break;
      default: return;
    }
    event.preventDefault();
  });

  // The filter. The index is made when it is first needed.
  let index = null;
  const read = (list, path) => {
    for (const item of list.children) {
      const head = item.querySelector("summary, .row");
      if (item.className === "d") {
        const inner = item.firstElementChild.lastElementChild;
        read(inner, path + head.querySelector(".p").textContent);
      } else {
        index.push({ item, text: (path + head.querySelector(".p").textContent + " " + head.textContent).toLowerCase() });
      }
    }
  };
  let before = null; // what was open when filtering began
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!index) {
      index = [];
      for (const tree of files.querySelectorAll(".tree")) read(tree.firstElementChild, "/");
    }
    const inner = files.querySelectorAll(".d");
    if (!words.length) {
      for (const e of files.querySelectorAll("li[hidden], details[hidden]")) e.hidden = false;
      if (before) for (const d of folders()) d.open = before.has(d);
      before = null;
      found.value = "";
      return;
    }
    if (!before) before = new Set([...folders()].filter((d) => d.open));
    const keep = new Set();
    let n = 0;
    for (const { item, text } of index) {
      const hit = words.every((w) => text.includes(w));
      item.hidden = !hit;
      if (!hit) continue;
      n++;
      for (let e = item.parentElement; e !== files && !keep.has(e); e = e.parentElement) keep.add(e);
    }
    for (const e of inner) {
      e.hidden = !keep.has(e);
      e.firstElementChild.open = n <= 200 && keep.has(e);
    }
    for (const layer of files.querySelectorAll(".layer")) layer.hidden = !keep.has(layer);
    found.value = n === 1 ? "1 file" : n.toLocaleString("en") + " files";
  };
  let timer = 0;
  filter.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(apply, 120);
  });
})();
