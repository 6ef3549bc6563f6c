const { mount, signIn } = window.isocenter;
const session = window.isocenterSession;
const part = id => document.getElementById(id);
const form = part("login-form");

function tell(problem) {
  part("problem").textContent = problem;
  part("problem").hidden = !problem;
}

async function send(path, asked, headers = {}) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: asked && JSON.stringify(asked),
  });
  return answer.ok ? {} : await answer.json();
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  tell("");
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const refused = await send("/api/v1/auth/login", {
      login: form.login.value,
      password: form.password.value,
      totp: form.code.value.replaceAll(" ", ""),
      cookie: true,
    });
    if (!refused.code) {
      window.location.replace(session.next());
      return;
    }
    const needed = refused.code === "second-factor-needed";
    if (needed || refused.code === "second-factor-refused") part("second-factor").hidden = false;
    tell([refused.detail, refused.remedy].filter(Boolean).join(" "));
    const again = part("second-factor").hidden ? form.password : form.code;
    again.select();
    again.focus();
  } catch {
    tell("The server cannot be reached. Try again in a moment.");
  } finally {
    button.disabled = false;
  }
});

part("log-out").addEventListener("click", async () => {
  const refused = await send("/api/v1/auth/logout", null, session.headers()).catch(() => ({ code: "away" }));
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
  const known = await session.renew().catch(() => false);
  if (!known) {
    form.hidden = false;
    form.login.focus();
    return;
  }
  const me = await (await fetch("/api/v1/me", { headers: session.headers() })).json();
  part("who").textContent = `You are logged in as ${me.name}.`;
  part("known").hidden = false;
}

show();
