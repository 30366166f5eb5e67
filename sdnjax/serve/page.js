"use strict";
// The page of the server: sends a picture to each network, draws what comes back, and reads the
// probabilities under the pointer from it. Everything that is shown of a picture is in this tab.
(() => {
  const by = (id) => document.getElementById(id);
  const [canvas, frame, sheet, probe, divider] = ["canvas", "frame", "sheet", "probe", "divider"].map(by);
  const [opacity, zoom, split, file] = ["opacity", "zoom", "split", "file"].map(by);
  const drop = document.querySelector(".drop");
  const LINE = [255, 214, 0]; // boundaries: seen on dark and on light
  const state = { networks: [], limit: Infinity, results: [], picture: null, at: null, abort: null, scale: 1 };
  state.opacity = 100; // of the layer that is not shown

  function element(name, how = {}, ...children) {
    const made = document.createElement(name);
    Object.assign(made, how);
    made.append(...children);
    return made;
  }

  function say(id, text) {
    by(id).textContent = text;
    by(id).hidden = !text;
  }

  // What `sdnjax/serve/answer.py` has packed.
  function unpack(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const found = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const [h, w] = found.size;
    let at = 4 + length;
    const take = (Kind, count) => {
      const array = new Kind(buffer, at, count);
      at += array.byteLength;
      return array;
    };
    const Label = found.wide ? Uint16Array : Uint8Array;
    found.labels = take(Label, h * w);
    found.classes = take(Label, found.likeliest * h * w);
    found.percents = take(Uint8Array, found.likeliest * h * w);
    found.boundaries = take(Uint8Array, h * w);
    found.file = new Blob([new Uint8Array(buffer, at)], { type: found.picture });
    return found;
  }

  // One picture of the results' size, made of a colour and whether it covers, for each pixel.
  function layer(result, colour) {
    const [h, w] = result.size;
    const made = new OffscreenCanvas(w, h);
    const context = made.getContext("2d");
    const pixels = context.createImageData(w, h);
    const words = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = colour(i);
    context.putImageData(pixels, 0, 0);
    return made;
  }

  const word = ([r, g, b]) => (255 * 2 ** 24 + b * 2 ** 16 + g * 2 ** 8 + r) >>> 0;

  function layers(result, palette) {
    const colours = palette.map(word);
    const line = word(LINE);
    return {
      classes: layer(result, (i) => colours[result.labels[i]]),
      boundaries: layer(result, (i) => (result.boundaries[i] ? line : 0)),
    };
  }

  let drawing = 0;
  function draw() {
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => {
      if (!state.picture) return;
      const context = canvas.getContext("2d");
      const { width, height } = canvas;
      const shown = document.querySelector("[name=layer]:checked").value;
      const edge = state.networks.length > 1 ? Math.round((split.value / 1000) * width) : width;
      context.globalAlpha = 1;
      context.drawImage(state.picture, 0, 0);
      // Lines of one pixel vanish where the picture is shown smaller than it is.
      const reach = shown === "boundaries" ? Math.max(0, Math.ceil(1.6 / state.scale) - 1) : 0;
      state.results.forEach((result, i) => {
        if (!result) return;
        context.save();
        context.beginPath();
        context.rect(i ? edge : 0, 0, i ? width - edge : edge, height);
        context.clip();
        context.globalAlpha = opacity.value / 100;
        context.drawImage(widened(result, shown, reach), 0, 0);
        context.restore();
      });
      divider.style.left = `${(100 * edge) / width}%`;
    });
  }

  function widened(result, shown, reach) {
    if (!reach) return result.layers[shown];
    if (result.reach !== reach) {
      const [h, w] = result.size;
      result.wide = new OffscreenCanvas(w, h);
      const context = result.wide.getContext("2d");
      const from = -(reach >> 1);
      for (let dy = from; dy <= from + reach; dy++)
        for (let dx = from; dx <= from + reach; dx++) context.drawImage(result.layers[shown], dx, dy);
      result.reach = reach;
    }
    return result.wide;
  }

  function fit() {
    if (!state.picture) return;
    const room = [by("view").clientWidth - 2, Math.max(280, innerHeight - 330)];
    const fitting = Math.min(room[0] / canvas.width, room[1] / canvas.height, 16);
    state.scale = zoom.value === "fit" ? fitting : Number(zoom.value);
    canvas.style.width = `${canvas.width * state.scale}px`;
    canvas.style.height = `${canvas.height * state.scale}px`;
    by("shown").style.maxWidth = `${canvas.width * state.scale + 2}px`;
    canvas.style.imageRendering = state.scale > 1 ? "pixelated" : "auto";
    draw();
  }

  function percent(value) {
    return value < 1 ? "< 1 %" : `${value} %`;
  }

  function row(colour, name, value, text, isLabel) {
    const spot = element("span", { className: "spot" });
    spot.style.background = `rgb(${colour.join()})`;
    const number = element("td", { className: "number" }, text);
    number.style.setProperty("--bar-end", `${value}%`);
    const head = element("th", { scope: "row" }, spot, name);
    return element("tr", { className: isLabel ? "label" : "" }, head, number);
  }

  function table(title, rows) {
    const several = state.networks.length > 1;
    return element("table", {}, ...(several ? [element("caption", {}, title)] : []), element("tbody", {}, ...rows));
  }

  // The probabilities at state.at, a pixel of the results; `spoken` for whoever does not see them.
  function read(spoken) {
    const first = state.results.find(Boolean);
    if (!state.at || !first) return;
    const [h, w] = first.size;
    const [x, y] = [Math.min(state.at[0], w - 1), Math.min(state.at[1], h - 1)];
    const own = [first.start[1] + x * first.every, first.start[0] + y * first.every];
    say("place", `column ${own[0]}, row ${own[1]}`);
    const words = [];
    const tables = state.results.flatMap((result, i) => {
      if (!result) return [];
      const { name, classes, palette } = state.networks[i];
      const at = y * w + x;
      const likely = Array.from({ length: result.likeliest }, (_, n) => n * h * w + at);
      const found = likely.map((place) => [result.classes[place], result.percents[place]]);
      const label = result.labels[at];
      // Post-processing may choose a class that is not among the likeliest.
      const rows = found.map(([k, p]) => row(palette[k], classes[k], p, percent(p), k === label));
      if (!found.some(([k]) => k === label)) rows.unshift(row(palette[label], classes[label], 0, "chosen", true));
      words.push(`${state.networks.length > 1 ? `${name}: ` : ""}${classes[label]}, ` +
        found.slice(0, 3).map(([k, p]) => `${classes[k]} ${percent(p)}`).join(", "));
      return [table(name, rows)];
    });
    by("points").replaceChildren(...tables);
    probe.hidden = false;
    probe.style.left = `${(100 * (x + 0.5)) / w}%`;
    probe.style.top = `${(100 * (y + 0.5)) / h}%`;
    if (spoken) by("spoken").textContent = `column ${own[0]}, row ${own[1]}: ${words.join("; ")}`;
  }

  function legends() {
    const tables = state.results.flatMap((result, i) => {
      if (!result) return [];
      const { name, classes, palette } = state.networks[i];
      const shares = Object.entries(result.shares).sort((a, b) => b[1] - a[1]);
      const rows = shares.map(([k, share]) => row(palette[k], classes[k], 100 * share, percent(Math.round(100 * share))));
      return [table(name, rows)];
    });
    by("legends").replaceChildren(...tables);
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const inside = (at, start, size, count) => Math.max(0, Math.min(count - 1, Math.floor(((at - start) / size) * count)));
    state.at = [
      inside(event.clientX, box.left, box.width, canvas.width),
      inside(event.clientY, box.top, box.height, canvas.height),
    ];
    read(false);
  }

  async function failure(response) {
    try {
      return (await response.json()).error;
    } catch {
      return `the server answered ${response.status}`;
    }
  }

  async function send(picture) {
    state.abort?.abort();
    const abort = (state.abort = new AbortController());
    say("error", "");
    if (picture.size > state.limit) {
      const most = state.limit / 1e6;
      return say("error", `${picture.name} has more than ${most} MB: --upload-limit allows more`);
    }
    drop.classList.add("used");
    frame.classList.add("waiting");
    const began = performance.now();
    const results = state.networks.map(() => null);
    const errors = [];
    const tick = () => {
      const seconds = Math.round((performance.now() - began) / 1000);
      const why = seconds > 4 ? "; the first picture of a size takes longest" : "";
      by("seconds").textContent = ` (${seconds} s${why})`;
    };
    const clock = setInterval(tick, 1000);
    for (const [i, network] of state.networks.entries()) {
      say("status", `${network.name} is segmenting ${picture.name}`);
      by("status").append(element("span", { id: "seconds", ariaHidden: "true" }));
      tick();
      try {
        const address = `/networks/${i}?name=${encodeURIComponent(picture.name)}`;
        const headers = { "Content-Type": "application/octet-stream" };
        const response = await fetch(address, { method: "POST", body: picture, headers, signal: abort.signal });
        if (!response.ok) throw new Error(await failure(response));
        const result = unpack(await response.arrayBuffer());
        result.layers = layers(result, network.palette);
        const seen = results.some(Boolean) ? state.picture : await createImageBitmap(result.file);
        if (abort.signal.aborted) break;
        results[i] = result;
        show(results, seen);
      } catch (error) {
        if (abort.signal.aborted) break;
        const reason = error instanceof TypeError ? "the server cannot be reached; is it still running?" : error.message;
        if (!errors.includes(reason)) errors.push(reason);
      }
    }
    clearInterval(clock);
    if (abort.signal.aborted) return; // by another picture, which has the page now
    say("status", "");
    say("error", errors.join("; "));
    drop.classList.toggle("used", Boolean(state.picture));
    frame.classList.remove("waiting");
  }

  function show(results, picture) {
    const first = results.find(Boolean);
    const [h, w] = first.size;
    if (state.picture !== picture) {
      [canvas.width, canvas.height] = [w, h];
      state.picture = picture;
      state.at = null;
      probe.hidden = true;
      by("points").replaceChildren();
      say("place", "Move over the picture, tap it, or use the arrow keys on it.");
    }
    state.results = results;
    frame.classList.remove("waiting");
    by("view").hidden = by("panel").hidden = false;
    const [height, width] = first.of;
    const part = first.every > 1 ? `, of which one in ${first.every} is shown in both directions` : "";
    say("note", `${width} × ${height} pixels${part}`);
    legends();
    fit();
    read(false);
  }

  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !state.picture) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1;
    const [x, y] = state.at ?? [canvas.width >> 1, canvas.height >> 1];
    const inside = (at, count) => Math.max(0, Math.min(count - 1, at));
    state.at = [inside(x + far * step[0], canvas.width), inside(y + far * step[1], canvas.height)];
    read(true);
    probe.scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return point(event);
    const box = canvas.getBoundingClientRect();
    split.value = Math.round((1000 * (event.clientX - box.left)) / box.width);
    draw();
  });
  split.addEventListener("input", draw);
  opacity.addEventListener("input", () => {
    by("opacity-value").textContent = `${opacity.value} %`;
    draw();
  });
  for (const choice of document.querySelectorAll("[name=layer]")) {
    choice.addEventListener("change", () => {
      [opacity.value, state.opacity] = [state.opacity, opacity.value]; // each layer has its own
      opacity.dispatchEvent(new Event("input"));
    });
  }
  zoom.addEventListener("change", fit);
  addEventListener("resize", fit);

  file.addEventListener("change", () => {
    if (file.files.length) send(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  // Anywhere on the page: a picture beside the field must not replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) send(event.clipboardData.files[0]);
  });

  async function begin() {
    const response = await fetch("/networks");
    if (!response.ok) return say("error", await failure(response));
    const { networks, upload_limit } = await response.json();
    state.networks = networks;
    state.limit = upload_limit;
    const names = networks.map((network) => network.name);
    by("title").textContent = names.join(" | ");
    document.title = `${names.join(", ")} – sdnjax`;
    by("about").textContent = networks.map((network) => network.about).join(" | ");
    const several = networks.length > 1;
    by("sides").hidden = by("split-label").hidden = divider.hidden = !several;
    if (several) [by("left").textContent, by("right").textContent] = [`◂ ${names[0]}`, `${names[1]} ▸`];
  }
  begin().catch(() => say("error", "the server cannot be reached; is it still running?"));
})();
