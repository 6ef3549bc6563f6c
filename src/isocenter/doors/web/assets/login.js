const { mount, signIn } = window.isocenter;
const session = window.isocenterSession;
const ways = window.isocenterSignIn;
const part = id => document.getElementById(id);
const form = part("login-form");
const ORGANIZATION = "isocenter-organization";

// A provider sends people back to this page: where they are in, or where our second factor is wanted too.
const came = new URLSearchParams(window.location.search);
const fromProvider = came.has("back");
const secondFactorAfter = came.get("login") === "second-factor" ? came.get("provider") : "";

function tell(problem) {
  part("problem").textContent = problem;
  part("problem").hidden = !problem;
}

function wantSecondFactor() {
  part("second-factor").hidden = false;
  form.code.select();
  form.code.focus();
}

async function enter(way) {
  tell("");
  const buttons = form.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    const refused = await way();
    if (!refused.code) {
      window.location.replace(session.next());
      return;
    }
    tell([refused.detail, refused.remedy].filter(Boolean).join(" "));
    if (refused.code.startsWith("second-factor-") || secondFactorAfter) wantSecondFactor();
    else if (refused.code !== "no-passkey") {
      form.password.select();
      form.password.focus();
    }
  } catch {
    tell("The server cannot be reached. Try again in a moment.");
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

form.addEventListener("submit", event => {
  event.preventDefault();
  const code = form.code.value.replaceAll(" ", "");
  enter(() =>
    secondFactorAfter
      ? ways.byCodeAfter(secondFactorAfter, code)
      : ways.byPassword(form.login.value, form.password.value, code),
  );
});

part("passkey").addEventListener("click", () =>
  enter(() => {
    if (secondFactorAfter) return ways.byPasskeyAfter(secondFactorAfter);
    if (part("second-factor").hidden) return ways.byPasskey();
    return ways.byPasswordAndPasskey(form.login.value, form.password.value);
  }),
);

async function offer(organization) {
  const found = await ways.providersOf(organization).catch(() => []);
  part("providers").replaceChildren(
    ...found.map(({ title, start }) => {
      const link = document.createElement("a");
      link.className = "button other";
      link.textContent = `Continue with ${title}`;
      link.href = `${start}?return_to=${encodeURIComponent(`${mount}/login?back=1`)}`;
      return link;
    }),
  );
  return found.length;
}

part("organization-form").addEventListener("submit", async event => {
  event.preventDefault();
  tell("");
  const organization = event.target.organization.value.trim();
  if (await offer(organization)) localStorage.setItem(ORGANIZATION, organization);
  else tell("This organisation has no identity provider here.");
});

part("log-out").addEventListener("click", async () => {
  const refused = await ways.logOut(session.headers()).catch(() => ({ code: "away" }));
  if (refused.code) tell("You could not be logged out. Try again in a moment.");
  else window.location.replace(`${mount}/login`);
});

async function show() {
  if (!signIn) {
    part("who").textContent = "This server asks nobody to log in.";
    part("log-out").hidden = true;
    part("known").hidden = false;
    return;
  }
  if (secondFactorAfter) {
    part("name-and-password").remove();
    part("passkey").hidden = !ways.passkeys;
    form.hidden = false;
    wantSecondFactor();
    return;
  }
  const known = await session.renew().catch(() => false);
  if (known && fromProvider) {
    window.location.replace(session.next());
    return;
  }
  if (!known) {
    part("passkey").hidden = !ways.passkeys;
    form.hidden = false;
    form.login.focus();
    part("others").hidden = false;
    await offer(came.get("organization") || localStorage.getItem(ORGANIZATION) || "default");
    return;
  }
  const me = await (await fetch("/api/v1/me", { headers: session.headers() })).json();
  part("who").textContent = `You are logged in as ${me.name}.`;
  part("known").hidden = false;
}

show();
