// Shows a run of configuring while it goes on: asks for the lines after those that are shown, until it has ended.
"use strict";

(() => {
  const table = document.getElementById("progress");
  const label = document.getElementById("run-state");
  const PAUSE_MS = 1000; // after an answer that did not come
  const WAIT_S = 5; // the panel holds its answer back for so long while there is nothing new

  // As the other pages show times: 2026-03-01 12:00:00, where the browser is.
  function moment(text) {
    const time = document.createElement("time");
    time.dateTime = time.title = text;
    time.textContent = new Date(text).toLocaleString("sv-SE");
    return time;
  }

  function add(row) {
    const line = document.createElement("tr");
    if (/^(FAILED|MISSING)/.test(row.text)) line.className = "failed";
    for (const [name, text] of [["time", row.time], ["name", row.part], ["text", row.text]]) {
      const cell = document.createElement("td");
      cell.className = name;
      cell.append(name === "time" ? moment(text) : text);
      line.append(cell);
    }
    table.tBodies[0].append(line);
    line.scrollIntoView({ block: "nearest" });
  }

  function apply(rows) {
    for (const row of rows) {
      if (row.state) {
        table.dataset.state = row.state;
        label.textContent = row.state;
        label.className = row.state;
      } else {
        table.dataset.seen = row.id;
        add(row);
      }
    }
  }

  async function follow() {
    while (table.dataset.state === "running") {
      const { run, seen } = table.dataset;
      const query = new URLSearchParams({ func: "vmwatch.configure.progress", out: "json", elid: run, after: seen, wait: WAIT_S });
      try {
        const { doc } = await (await fetch(`/vmmgr?${query}`)).json();
        if (doc.error) return location.reload(); // the session is over, or the panel was started anew
        apply([doc.elem].flat().map((cells) => Object.fromEntries(Object.entries(cells).map(([name, cell]) => [name, cell.$]))));
      } catch {
        await new Promise((done) => setTimeout(done, PAUSE_MS));
      }
    }
  }

  follow();
})();
