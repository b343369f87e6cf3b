// Keeps a page live: applies the changes that the panel sends, and shows times as this browser has them.
// All text is set with textContent: a VM's name is whatever somebody typed.
"use strict";

(() => {
  const page = document.body.dataset.page;
  const MOST_ROWS = 500; // a page left open for a week must not grow without bound
  const REMOVED = "removed, reports";
  const RETRY_MS = 5000; // a browser gives up by itself after an answer that is not a stream
  const query = new URLSearchParams(location.search);
  const body = document.querySelector("#rows tbody");
  const whole = document.body.dataset.whole === "yes";
  // Of these pages parts are drawn anew by the panel when the number of the last change differs.
  const versioned = { problems: "problems", problem: "problems", installations: "installations" }[page]
    || (document.getElementById("subject") && "problems");
  const rows = new Map();
  const signs = new Map(); // by node, in this browser's time: when its last sign of life was
  let connected = false;

  const pad = (number) => String(number).padStart(2, "0");

  function absolute(date) {
    const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
    return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  }

  function ago(milliseconds) {
    const seconds = Math.max(0, Math.round(milliseconds / 1000));
    if (seconds < 60) return `${seconds} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
    return "";
  }

  function showTime(element) {
    const date = new Date(element.dateTime);
    if (isNaN(date)) return;
    element.title = element.dateTime;
    element.textContent = absolute(date);
  }

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function moment(text) {
    if (!text) return make("span", "none", "never");
    const element = make("time");
    element.dateTime = text;
    element.textContent = text;
    return element;
  }

  function state(name) {
    return make("span", `state ${name}`, name.replaceAll("_", " "));
  }

  function cell(row, className, ...content) {
    const td = make("td", className);
    td.append(...content);
    row.append(td);
    return td;
  }

  function warning({ text, since }) {
    const element = make("span", "warning", `${text} `);
    const small = make("small", "", "since ");
    small.append(moment(since));
    element.append(small);
    return element;
  }

  function events(uuid, text) {
    const link = make("a", "", text);
    link.href = `/vmmgr?${new URLSearchParams({ func: "eventlog", uuid })}`;
    return link;
  }

  function installations(elid, text) {
    const link = make("a", "detail install", text);
    link.href = `/vmmgr?${new URLSearchParams({ func: "vm.install.list", elid })}`;
    return link;
  }

  function fresh(row) {
    row.classList.remove("fresh");
    void row.offsetWidth; // restarts the animation
    row.classList.add("fresh");
  }

  function fits(vm) {
    const part = (query.get("q") || "").trim().toLowerCase();
    const wanted = query.get("vmstatus");
    const node = query.get("hostnode");
    return (!wanted || vm.state === wanted) && (query.get("warnings") !== "on" || vm.warnings.length) && (!node || vm.node === node)
      && (!part || vm.name.toLowerCase().includes(part) || vm.uuid.includes(part));
  }

  // How many VMs fit, on all pages; null where the panel does not say it.
  function total({ counts, warned }) {
    if ((query.get("q") || "").trim() || query.get("hostnode")) return null;
    if (query.get("warnings") === "on") return query.get("vmstatus") ? null : warned;
    const wanted = query.get("vmstatus");
    return wanted ? counts[wanted] || 0 : Object.values(counts).reduce((sum, number) => sum + number, 0);
  }

  function vmRow(vm) {
    const row = make("tr");
    row.dataset.key = vm.uuid;
    cell(row, "name", events(vm.uuid, vm.name));
    const status = cell(row, "status", state(vm.state));
    if (vm.install) status.append(" ", installations(vm.uuid, vm.install));
    cell(row, "warnings", ...vm.warnings.map(warning));
    cell(row, "node", vm.node).dataset.label = "Node";
    cell(row, "since", moment(vm.since)).dataset.label = "Since";
    cell(row, "uuid", make("code", "", vm.uuid)).dataset.label = "UUID";
    return row;
  }

  const order = new Intl.Collator(undefined, { numeric: true });
  const nameOf = (row) => row.querySelector(".name").textContent;

  function place(row) {
    const next = query.get("sort") ? undefined
      : [...body.rows].find((other) => order.compare(nameOf(other), nameOf(row)) > 0);
    body.insertBefore(row, next || null);
  }

  function remove(key) {
    const row = rows.get(key);
    if (row) row.remove();
    rows.delete(key);
  }

  function applyVm(vm) {
    const before = rows.get(vm.uuid);
    if (!fits(vm)) return remove(vm.uuid);
    if (!before && !(whole && rows.size < MOST_ROWS)) return;
    const row = vmRow(vm);
    row.querySelectorAll("time").forEach(showTime);
    if (before && before.textContent.replace(/\s+/g, "") === row.textContent.replace(/\s+/g, "")) return;
    if (before && nameOf(before) === vm.name) before.replaceWith(row);
    else {
      remove(vm.uuid);
      place(row);
    }
    rows.set(vm.uuid, row);
    fresh(row);
  }

  function eventFits(event) {
    return ["node", "uuid", "name", "event"].every((name) => !query.get(name) || query.get(name).trim() === event[name]);
  }

  function applyEvent(event) {
    if (!whole || rows.has(event.id) || !eventFits(event)) return;
    const row = make("tr");
    row.dataset.key = event.id;
    cell(row, "time", moment(event.time));
    cell(row, "name", events(event.uuid, event.name)).firstChild.title = event.uuid;
    cell(row, "event", event.event, ...(event.detail ? [" ", make("span", "detail", event.detail)] : []));
    cell(row, "status", ...(event.state ? [state(event.state)] : []));
    cell(row, "node", event.node).dataset.label = "Node";
    cell(row, "received", moment(event.received)).dataset.label = "Received";
    body.prepend(row);
    rows.set(event.id, row);
    while (body.rows.length > MOST_ROWS) remove(body.rows[body.rows.length - 1].dataset.key);
    row.querySelectorAll("time").forEach(showTime);
    fresh(row);
  }

  function maintenance(until) {
    if (!until) return [];
    const note = make("span", "maintenance", "maintenance until ");
    note.append(moment(until));
    return [note];
  }

  // The VM that a page of events is about.
  function applySubject(vm) {
    const card = document.getElementById("subject");
    if (!card || card.dataset.uuid !== vm.uuid) return;
    card.querySelector("h2").textContent = vm.name;
    card.querySelector(".status").replaceChildren(state(vm.state));
    card.querySelector(".installing").replaceChildren(...(vm.install ? [installations(vm.uuid, vm.install)] : []));
    card.querySelector(".node").textContent = vm.node;
    card.querySelector(".node").href = `/vmmgr?${new URLSearchParams({ func: "vm", hostnode: vm.node })}`;
    card.querySelector(".since").replaceChildren(moment(vm.since));
    card.querySelector(".warnings").replaceChildren(...vm.warnings.map(warning));
    card.querySelectorAll("time").forEach(showTime);
  }

  function applyNode(node) {
    const row = rows.get(node.name);
    if (!row || node.hidden) {
      // A node more or less is rare; but what somebody types, or has just sent, must not be lost with the page.
      if (!document.querySelector("details[open]")) location.reload();
      return;
    }
    row.querySelector(".seen").replaceChildren(moment(node.seen));
    row.querySelector(".lag").textContent = node.lag ? `${node.lag} s` : "–";
    row.querySelector(".vms").textContent = node.vms;
    row.querySelector(".version").textContent = node.version || "–";
    row.querySelector(".status").replaceChildren(state(node.state), ...(node.removed ? [" ", make("span", "state muted removed", REMOVED)] : []),
      ...(node.doubt ? [" ", make("span", "detail doubt", node.doubt)] : []), ...maintenance(node.maintenance));
    row.querySelectorAll("time").forEach(showTime);
    sign(row, node.ago);
    showSign(row);
  }

  function applyMaster(until) {
    const note = document.getElementById("master-maintenance");
    note.hidden = !until;
    note.lastElementChild.replaceChildren(...maintenance(until));
    note.querySelectorAll("time").forEach(showTime);
  }

  // The panel says how long ago, in seconds: its clock and this browser's may differ by hours.
  function sign(row, ago) {
    signs.set(row.dataset.key, Date.now() - 1000 * ago);
  }

  function showSign(row) {
    const time = row.querySelector(".seen time");
    if (!time || !connected) return; // what this page does not hear says nothing about a node
    const text = ago(Date.now() - signs.get(row.dataset.key));
    if (text) time.textContent = text;
    else showTime(time);
  }

  function showDoubt(reason) {
    const note = document.getElementById("doubt");
    note.hidden = !reason;
    note.lastElementChild.textContent = reason;
  }

  function apply(change) {
    showDoubt(change.doubt);
    if (page === "vm") {
      change.gone.forEach(remove);
      change.vms.forEach(applyVm);
      document.getElementById("empty").hidden = rows.size > 0;
      const shown = whole ? rows.size : total(change);
      if (shown !== null) document.getElementById("shown").textContent = shown;
      document.querySelectorAll("[data-count]").forEach((element) => {
        const number = change.counts[element.dataset.count] || 0;
        element.textContent = number;
        if (number) element.closest("li").hidden = false;
      });
      const warned = document.getElementById("warned");
      warned.textContent = change.warned;
      if (change.warned) warned.closest("li").hidden = false;
    } else if (page === "eventlog") {
      change.vms.forEach(applySubject);
      change.events.forEach(applyEvent);
      document.getElementById("empty").hidden = rows.size > 0;
      if (versioned) applyVersion(change);
    } else if (versioned) {
      applyVersion(change);
    } else if (page === "vmhostnode") {
      change.nodes.filter((node) => !node.hidden || rows.has(node.name)).forEach(applyNode);
      applyMaster(change.master_maintenance);
    }
  }

  let drawing = false;

  // Draws those parts of the page anew that have changed; what somebody types meanwhile stays.
  async function redraw() {
    if (drawing) return;
    drawing = true;
    try {
      const answer = await fetch(location.href);
      if (!answer.ok || answer.redirected) return location.reload(); // gone, or the session is over
      const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!drawn.body.dataset[versioned]) return location.reload(); // somebody deleted the problem
      for (const part of document.querySelectorAll("[data-part]")) {
        const now = drawn.getElementById(part.id);
        if (!now) continue;
        part.querySelectorAll("details[open]").forEach((one) => {
          const same = now.querySelector(`#${one.id}`);
          if (same) same.open = true;
        });
        now.querySelectorAll("time").forEach(showTime);
        part.replaceWith(now);
      }
      document.body.dataset[versioned] = drawn.body.dataset[versioned];
    } catch {
      newest = undefined; // away: the stream comes back by itself, and brings it again
    } finally {
      setTimeout(() => { drawing = false; applyVersion(); }, 300);
    }
  }

  let newest; // the number of the last change of what the page shows

  function applyVersion(change) {
    if (change) newest = String(change[versioned]);
    if (change && "progress" in change) showProgress(change.progress);
    if (newest && newest !== document.body.dataset[versioned]) redraw();
  }

  function showProgress(progress) {
    const box = document.getElementById("progress");
    box.hidden = !progress;
    if (!progress) return;
    const missing = progress.told - progress.lines.length;
    box.querySelector("h2 span").textContent = progress.attempt;
    box.querySelector("pre").textContent = [...(missing ? [`… ${missing} lines before`] : []), ...progress.lines].join("\n");
  }

  const light = document.getElementById("live");

  function shine(className, text) {
    light.hidden = false;
    light.className = `live ${className}`;
    light.title = text;
    light.lastElementChild.textContent = text;
  }

  let source; // a browser has six connections to one origin: only a page that is seen keeps one

  function connect() {
    if (source || document.hidden) return;
    const { after, run, problem } = document.body.dataset;
    const wanted = new URLSearchParams({ after, run, ...(problem && { problem }) });
    source = new EventSource(`/vmmgr/live?${wanted}`);
    shine("", "connecting");
    source.onopen = () => shine("on", "live");
    source.onmessage = (message) => {
      connected = true; // the first one brings what was missed
      if (message.lastEventId) document.body.dataset.after = message.lastEventId;
      apply(JSON.parse(message.data));
    };
    // More was missed than the panel remembers. The pause keeps many pages from coming back in the same moment.
    source.addEventListener("reset", () => {
      disconnect();
      setTimeout(() => location.reload(), 500 + Math.random() * 2500);
    });
    source.onerror = () => {
      connected = false;
      shine("off", "not connected");
      if (source.readyState !== EventSource.CLOSED) return;
      disconnect();
      setTimeout(again, RETRY_MS * (1 + Math.random()));
    };
  }

  function disconnect() {
    if (source) source.close();
    source = undefined;
    connected = false;
  }

  async function again() {
    try {
      const answer = await fetch("/vmmgr?func=vm&out=json&p_cnt=1");
      if ((await answer.json()).doc.error) return location.reload(); // the session is over: to the sign-in
    } catch {
      // still away
    }
    connect();
  }

  // Times are shown as this browser has them, so they are also typed like that; the panel is asked with the offset.
  function translateTimes(form) {
    const typed = [...form.querySelectorAll("input[type=datetime-local]")];
    for (const input of typed) {
      const date = new Date(query.get(input.name) || NaN);
      if (!isNaN(date)) input.value = absolute(date).replace(" ", "T");
    }
    form.addEventListener("formdata", ({ formData }) => {
      for (const { name, value } of typed) {
        const date = new Date(value || NaN);
        if (!isNaN(date)) formData.set(name, date.toISOString());
      }
      for (const [name, value] of [...formData]) if (!value) formData.delete(name);
    });
  }

  document.querySelectorAll("time").forEach(showTime);
  document.querySelectorAll("form.filters").forEach(translateTimes);
  if (!page) return;
  if (body) for (const row of body.rows) rows.set(row.dataset.key, row);
  if (page === "vmhostnode") {
    for (const row of body.rows) sign(row, Number(row.dataset.ago));
    setInterval(() => [...body.rows].forEach(showSign), 1000);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  connect();
})();
