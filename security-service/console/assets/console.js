// What the console is better with: texts are copied, tables are filtered, and pages load themselves again. Nothing needs it.
"use strict";
(() => {
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("console", { createHTML: (text) => text })
    : { createHTML: (text) => text };

  const furnish = (root) => {
    for (const button of root.querySelectorAll("button.copy")) {
      if (!navigator.clipboard) break;
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
    }
    for (const table of root.querySelectorAll("table[data-filter]")) {
      const rows = [...table.tBodies[0].rows];
      if (rows.length < 8) continue;
      const label = document.createElement("label");
      label.className = "find";
      const input = document.createElement("input");
      input.type = "search";
      input.autocomplete = "off";
      input.addEventListener("input", () => {
        const wanted = input.value.toLowerCase();
        for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
      });
      label.append(`Find in ${table.dataset.filter} `, input);
      table.closest(".scroll").before(label);
    }
  };

  // A page is not taken away from whoever is in the middle of something on it.
  const isBusy = (main) =>
    document.hidden
    || (main.contains(document.activeElement) && document.activeElement !== main)
    || [...main.querySelectorAll("input:not([type=hidden]), details")].some((one) =>
      one.open || (one.value !== undefined && one.value !== one.defaultValue))
    || !window.getSelection().isCollapsed;

  const refresh = async () => {
    const main = document.getElementById("main");
    const fresh = document.getElementById("fresh");
    if (!main.dataset.refresh || isBusy(main)) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const text = policy.createHTML(await answer.text());
      const next = new DOMParser().parseFromString(text, "text/html").getElementById("main");
      if (!next || isBusy(main)) return;
      main.replaceChildren(...next.childNodes);
      furnish(main);
      if (fresh) fresh.textContent = `Loaded at ${new Date().toLocaleTimeString()}`;
    } catch {
      if (fresh) fresh.textContent = "Cannot be loaded again: the service is away, or the session has ended";
    }
  };

  furnish(document);
  const seconds = Number(document.getElementById("main")?.dataset.refresh);
  if (seconds > 0) {
    setInterval(refresh, seconds * 1000);
    // Whoever comes back to it sees what is now.
    document.addEventListener("visibilitychange", refresh);
  }
})();
