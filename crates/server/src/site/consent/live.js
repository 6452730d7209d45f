// Fetches this page again every few seconds and puts its new text in the place of the old, so that a screen reader
// announces what has changed. Without it the page reloads itself.
"use strict";
(() => {
  const pause = 3000;
  let failures = 0;
  const next = () => setTimeout(refresh, pause * Math.min(1 + failures, 10));
  async function refresh() {
    if (document.hidden) {
      next();
      return;
    }
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store", redirect: "error" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      const old = document.getElementById("main");
      failures = 0;
      if (!fresh || !old) return;
      const state = (main) => main.querySelector("[role=status]");
      if (state(fresh) && state(old) && fresh.querySelector("h1").textContent === old.querySelector("h1").textContent) {
        state(old).replaceChildren(...state(fresh).childNodes);
        state(old).dataset.state = state(fresh).dataset.state;
      } else {
        old.replaceChildren(...fresh.childNodes);
        document.title = page.title;
      }
      if (!page.querySelector('script[src="/consent/live.js"]')) return;
    } catch {
      failures += 1;
    }
    next();
  }
  next();
})();
