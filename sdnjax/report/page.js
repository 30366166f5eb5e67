"use strict";
// What needs a script: values under the pointer, and tables that sort. All else works without.
(() => {
  const tip = document.querySelector(".tip");

  function show(event, text) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
    const top = Math.min(event.clientY + 14, innerHeight - box.height - 4);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, top)}px`;
  }

  // The pointer in the drawing's own units.
  function inside(svg, event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  }

  function follow(svg, shown) {
    const cursor = svg.querySelector(".cursor");
    const hide = () => {
      tip.hidden = true;
      cursor.setAttribute("visibility", "hidden");
    };
    const move = (event) => {
      const text = shown(inside(svg, event), cursor);
      if (text === null) return hide();
      cursor.setAttribute("visibility", "visible");
      show(event, text);
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", hide);
  }

  for (const svg of document.querySelectorAll("svg.chart")) {
    const series = JSON.parse(svg.dataset.series);
    follow(svg, (at, cursor) => {
      const distance = (point) => Math.abs(point[0] - at.x);
      const near = series.map((one) => one.points.reduce((a, b) => (distance(b) < distance(a) ? b : a)));
      const nearest = near.reduce((a, b) => (distance(b) < distance(a) ? b : a));
      cursor.setAttribute("x1", nearest[0]);
      cursor.setAttribute("x2", nearest[0]);
      const lines = near.map((point, i) => {
        const where = point[2] === nearest[2] ? "" : ` (${svg.dataset.x} ${point[2]})`;
        return `${series[i].name}: ${point[3]}${where}`;
      });
      return [`${svg.dataset.x} ${nearest[2]}`, ...lines].join("\n");
    });
  }

  for (const svg of document.querySelectorAll("svg.matrix")) {
    const names = JSON.parse(svg.dataset.names);
    const [margin, size] = JSON.parse(svg.dataset.grid);
    const cells = new Map(JSON.parse(svg.dataset.cells).map((cell) => [cell[0] * names.length + cell[1], cell]));
    follow(svg, (at, cursor) => {
      const [j, i] = [at.x, at.y].map((x) => Math.floor((x - margin) / size));
      if (Math.min(i, j) < 0 || Math.max(i, j) >= names.length) return null;
      cursor.setAttribute("x", margin + j * size);
      cursor.setAttribute("y", margin + i * size);
      const cell = cells.get(i * names.length + j);
      const value = cell ? `${cell[2]} % (${cell[3]} pixels)` : "below 0.5 %";
      return `true: ${names[i]}\npredicted: ${names[j]}\n${value}`;
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const key = (row) => {
          const cell = row.cells[column];
          return "key" in cell.dataset ? parseFloat(cell.dataset.key) : cell.textContent;
        };
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return (falling ? -1 : 1) * (typeof x === "string" ? x.localeCompare(y) : x - y);
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }
})();
