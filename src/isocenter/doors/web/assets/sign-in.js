// What the login page asks of the API. Each way in answers {} when the refresh cookie is set, else the problem.
window.isocenterSignIn = (() => {
  const AUTH = "/api/v1/auth";

  async function post(path, asked, headers = {}) {
    const answer = await fetch(AUTH + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: asked && JSON.stringify(asked),
    });
    const told = answer.status === 204 ? {} : await answer.json();
    return { told, refused: answer.ok ? null : told };
  }

  const send = async (path, asked, headers) => (await post(path, asked, headers)).refused ?? {};

  // The API speaks JSON of WebAuthn Level 3 §5.1; older browsers and pages without TLS have none of it.
  const passkeys = Boolean(window.PublicKeyCredential?.parseRequestOptionsFromJSON);

  async function withPasskey(optionsPath, asked, use) {
    const { told, refused } = await post(optionsPath, asked);
    if (refused) return refused;
    let credential;
    try {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(told.public_key);
      credential = (await navigator.credentials.get({ publicKey })).toJSON();
    } catch (error) {
      // Cancelled, timed out, or there is none: browsers tell pages no more than that (WebAuthn §14.5.2).
      return { code: "no-passkey", detail: `No passkey was used (${error.name}).`, remedy: "Try again, or log in otherwise." };
    }
    return use(credential);
  }

  return {
    passkeys,
    byPassword: (login, password, totp) => send("/login", { login, password, totp, cookie: true }),
    // The person is known by the passkey alone.
    byPasskey: () =>
      withPasskey("/passkeys/login/options", null, credential =>
        send("/passkeys/login", { credential, cookie: true }),
      ),
    byPasswordAndPasskey: (login, password) =>
      withPasskey("/passkeys/second-factor/options", { login, password }, passkey =>
        send("/login", { login, password, passkey, cookie: true }),
      ),
    // After a provider's word (docs/openid-connect.md, `ours-too`).
    byCodeAfter: (provider, totp) =>
      send(`/oidc/${encodeURIComponent(provider)}/second-factor`, { totp, cookie: true }),
    byPasskeyAfter: provider =>
      withPasskey(`/oidc/${encodeURIComponent(provider)}/second-factor/options`, null, passkey =>
        send(`/oidc/${encodeURIComponent(provider)}/second-factor`, { passkey, cookie: true }),
      ),
    logOut: headers => send("/logout", null, headers),
    async providersOf(organization) {
      const answer = await fetch(`${AUTH}/oidc?organization=${encodeURIComponent(organization)}`);
      return answer.ok ? (await answer.json()).providers : [];
    },
  };
})();
