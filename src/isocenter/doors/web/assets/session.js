// Access tokens for a page of this origin. The refresh token is in a cookie that no script can read and that the
// browser sends to /api/v1/auth only, from pages of this site only (SameSite=Strict). Each refresh token counts
// once, so one page at a time renews; where the browser has no locks (plain HTTP from another machine), two pages
// that renew in the same moment end the login.
window.isocenterSession = (() => {
  const AHEAD_MS = 60_000;
  const AGAIN_MS = 10_000;
  const NEXT = "isocenter-next";
  const { mount, signIn } = window.isocenter;
  let token = "";
  let expiresAt = 0;
  let timer = 0;

  const alone = work => (navigator.locks ? navigator.locks.request("isocenter-refresh", work) : work());

  // True when there is a token now, false when nobody is logged in; throws where the server cannot be reached.
  async function renew() {
    const answer = await alone(() =>
      fetch("/api/v1/auth/refresh", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: "{}",
        keepalive: true, // a page that is left now still gets its new cookie
      }),
    );
    if (answer.status === 401) return false;
    if (!answer.ok) throw new Error(`The login could not be renewed (${answer.status}).`);
    const tokens = await answer.json();
    token = tokens.access_token;
    expiresAt = Date.now() + tokens.expires_in * 1000;
    schedule(Math.max(AGAIN_MS, tokens.expires_in * 1000 - AHEAD_MS));
    return true;
  }

  function schedule(delayMs) {
    clearTimeout(timer);
    timer = setTimeout(stay, delayMs);
  }

  async function stay() {
    try {
      if (!(await renew())) toLogin();
    } catch {
      schedule(AGAIN_MS);
    }
  }

  document.addEventListener("visibilitychange", () => {
    // Timers of hidden pages and of sleeping machines come late.
    if (!document.hidden && token && Date.now() > expiresAt - AHEAD_MS) stay();
  });

  function toLogin() {
    const { pathname, search } = window.location;
    sessionStorage.setItem(NEXT, pathname + search);
    window.location.assign(`${mount}/login`);
  }

  // Where the page was going before the login; only addresses of the viewer.
  function next() {
    const asked = sessionStorage.getItem(NEXT) || "";
    sessionStorage.removeItem(NEXT);
    return asked.startsWith(`${mount}/`) && !asked.startsWith(`${mount}/login`) ? asked : `${mount}/`;
  }

  return {
    renew,
    next,
    // Resolves with a token at hand; goes to the login page, and never resolves, when there is none to get.
    async begin() {
      if (!signIn || (await renew())) return;
      toLogin();
      await new Promise(() => {});
    },
    headers: () => (token ? { Authorization: `Bearer ${token}` } : {}),
  };
})();
