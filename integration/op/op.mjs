// An OpenID-certified provider (npm: oidc-provider) for the integration tests. Loopback only, everything in memory.
//
//   PORT        port on 127.0.0.1 (0: a free one); the issuer is http://127.0.0.1:PORT
//   OP_MODULES  the node_modules folder that `integration/parts.sh` made
//   OP_CLIENTS  JSON list of client registrations
//   OP_NONCE    set: a DPoP proof needs a nonce of ours (RFC 9449, section 8)
//   OP_THIN     set: ID tokens carry no claims of the scopes, userinfo does
//
// Names that end in .test are on 127.0.0.1, as the tests' browsers see them: logout tokens go to https://app.test:PORT and a
// jwks_uri may point there (NODE_EXTRA_CA_CERTS has the authority).
//
// The first line on standard output is "OP <issuer>" as soon as it answers. For tests alone:
//   GET  /_test/counts          how often each path was asked for
//   GET  /_test/authorizations  the parameters of each authorization request, pushed or not
//   POST /_test/user            {"user":"dana", …}: changes a user; "disabled": true closes the account, "ago": 600 lets each of
//                               their sign-ins have been ten minutes before
//   POST /_test/logout          {"user":"dana","client":"anteroom","form":"sid"|"sub"}: the house ends a user's sessions, without
//                               any browser; logout tokens name each session or the subject
// Keys are made at start, so a restart is a key rotation.
import crypto from 'node:crypto';
import dns from 'node:dns';
import http from 'node:http';

const { Provider, interactionPolicy } = await import(`${process.env.OP_MODULES}/oidc-provider/lib/index.js`);

// The subject differs from the user name on purpose: whoever mixes the two up fails a test.
const users = {
  dana: { sub: 'u-1001', name: 'Dana Doctor', email: 'dana@hospital.test', groups: ['grp-physicians', 'staff'] },
  pat: { sub: 'u-1002', name: 'Pat Patient', email: 'pat@hospital.test', groups: ['grp-patients'], record: 'pat-1' },
  finn: { sub: 'u-1003', name: 'Finn Finance', email: 'finn@hospital.test', groups: ['grp-finance', 'staff'] },
  ext: { sub: 'u-1004', name: 'Ellis External', email: 'ellis@practice.test', groups: ['grp-external'] },
  admin: { sub: 'u-1005', name: 'Ada Admin', groups: ['grp-admins', 'grp-physicians'] },
  nobody: { sub: 'u-1006', name: 'Nia Nobody', email: 'nia@hospital.test', groups: [] },
  zoe: { sub: 'u-1007', name: 'Zoë Ünïcode', email: 'zoe@hospital.test', groups: ['grp-physicians', 'not-mapped'] },
};
const nameOf = (sub) => Object.keys(users).find((name) => users[name].sub === sub && !users[name].disabled);
const claimsOf = (name) => ({ ...users[name], preferred_username: name });
const passwordOf = (name) => `${name}-pw`;
const secondStep = '123456'; // of everybody

const [lowLevel, highLevel] = ['urn:example:pwd', 'urn:example:mfa'];

const realLookup = dns.lookup;
dns.lookup = (host, options, done) => (host.endsWith('.test') ? realLookup('127.0.0.1', options, done) : realLookup(host, options, done));

// Keys go through PEM: exporting one object of a pair while the other one is garbage stops Node 20 for ever, now and then.
const makeKey = (alg, type, options) => {
  const pair = crypto.generateKeyPairSync(type, {
    ...options, publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return {
    ...crypto.createPrivateKey(pair.privateKey).export({ format: 'jwk' }),
    alg, use: 'sig', kid: `${alg.toLowerCase()}-${crypto.randomBytes(4).toString('hex')}`,
  };
};
const keys = [
  makeKey('RS256', 'rsa', { modulusLength: 2048 }),
  makeKey('ES256', 'ec', { namedCurve: 'P-256' }),
  makeKey('EdDSA', 'ed25519'),
];

const server = http.createServer();
await new Promise((done) => server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

// Somebody who proved less than the request asks for has to prove more, although the provider knows them.
const policy = interactionPolicy.base();
policy.get('login').checks.add(new interactionPolicy.Check('acr_not_reached', 'more proof is needed', (ctx) => {
  const asked = (ctx.oidc.params.acr_values ?? '').split(' ').filter(Boolean);
  const reached = !asked.length || !ctx.oidc.session.accountId || asked.includes(ctx.oidc.session.acr) || ctx.oidc.result?.login;
  return !reached;
}));

// What the resource server of a FHIR interface offers (SMART App Launch 2.0). Clients named *-opaque get tokens to introspect.
const fhirScopes = 'patient/Observation.rs patient/Patient.r patient/*.read system/Observation.rs system/Patient.r user/Observation.cruds launch/patient';

const provider = new Provider(issuer, {
  clients: JSON.parse(process.env.OP_CLIENTS ?? '[]'),
  jwks: { keys },
  cookies: { keys: [crypto.randomBytes(24).toString('hex')] },
  claims: {
    openid: ['sub', 'auth_time', 'acr', 'amr'],
    profile: ['name', 'preferred_username', 'groups'],
    email: ['email'],
  },
  conformIdTokenClaims: !!process.env.OP_THIN, // false: claims of the scopes are in the ID token too, as most hospital providers do it
  acrValues: [lowLevel, highLevel],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
  pkce: { required: () => true },
  // No offline_access is needed for a refresh token, as with the providers that hospitals have; it ends with the session.
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  async findAccount(ctx, sub) {
    const name = nameOf(sub);
    return name && { accountId: sub, claims: async () => claimsOf(name) };
  },
  extraTokenClaims(ctx, token) { // access tokens say who the person is, and for a patient whose record it is about
    const name = token.accountId && nameOf(token.accountId);
    if (!name) return undefined;
    const { acr, authTime } = ctx.oidc.entities.AuthorizationCode ?? ctx.oidc.entities.RefreshToken ?? {};
    return { preferred_username: name, groups: users[name].groups, acr, auth_time: authTime, ...(users[name].record ? { patient: users[name].record } : {}) };
  },
  async loadExistingGrant(ctx) { // no consent page: the hospital consented for its own application
    const { client, session, params } = ctx.oidc;
    const id = session.grantIdFor(client.clientId);
    const grant = (id && await provider.Grant.find(id)) || new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope(params.scope);
    for (const resource of [params.resource ?? []].flat()) grant.addResourceScope(resource, params.scope);
    await grant.save();
    return grant;
  },
  interactions: { policy, url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: {
    AccessToken: 300, ClientCredentials: 300, IdToken: 300, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600, AuthorizationCode: 60,
  },
  features: {
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    dPoP: { enabled: true, nonceSecret: crypto.randomBytes(32), requireNonce: () => !!process.env.OP_NONCE },
    introspection: { enabled: true },
    revocation: { enabled: true },
    clientCredentials: { enabled: true },
    jwtUserinfo: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (ctx, resource, client) => ({
        scope: fhirScopes, audience: resource, accessTokenTTL: 300,
        ...(client.clientId.endsWith('-opaque') ? { accessTokenFormat: 'opaque' } : { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }),
      }),
      useGrantedResource: async () => true,
    },
  },
  // The provider sends nothing to special-use addresses, and here there are no others.
  fetch(url, options) { delete options.dispatcher; return globalThis.fetch(url, options); },
});
for (const event of ['server_error', 'authorization.error', 'pushed_authorization_request.error', 'grant.error', 'userinfo.error', 'introspection.error',
  'end_session.error', 'backchannel.error', 'backchannel.success']) {
  provider.on(event, (ctx, err, client) => console.log(event, err?.error_description ?? err?.message ?? err?.clientId ?? '', err?.error_detail ?? '', client?.clientId ?? ''));
}
const authorizations = [];
provider.on('authorization.success', (ctx) => authorizations.push(ctx.oidc.params));
const sessions = new Map(); // uid → subject, of every session that there was
provider.on('session.saved', (session) => sessions.set(session.uid, session.accountId));

const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const form = (message, inputs) => `<!doctype html><html lang="en"><title>Hospital sign-in</title>
<h1>Hospital sign-in</h1>${message ? `<p role="alert">${message}</p>` : ''}
<form method="post">${inputs}
<p><button id="go">Sign in</button></form></html>`;
const passwordInputs = (hint) => `${hint ? `<p>You said that you are ${escaped(hint)}.` : ''}<p><label>User <input name="username" id="u" autocomplete="username"></label>
<p><label>Password <input name="password" id="p" type="password" autocomplete="current-password"></label>`;
const codeInputs = '<p><label>Code <input name="code" id="c" autocomplete="one-time-code"></label>';

async function readBody(req) {
  let text = '';
  for await (const chunk of req) text += chunk;
  return text;
}

const firstStepDone = new Map(); // interaction → name

async function interaction(req, res) {
  const { uid, params, prompt, session } = await provider.interactionDetails(req, res);
  const page = (status, message, inputs) => { res.writeHead(status, { 'content-type': 'text/html; charset=utf-8' }); res.end(form(message, inputs)); };
  const high = (params.acr_values ?? '').split(' ').includes(highLevel);
  // Only the second step is missing when nothing but the level is.
  if (!firstStepDone.has(uid) && prompt.reasons.length === 1 && prompt.reasons[0] === 'acr_not_reached') firstStepDone.set(uid, nameOf(session.accountId));
  const fields = req.method === 'POST' ? new URLSearchParams(await readBody(req)) : new URLSearchParams();
  let name = firstStepDone.get(uid);
  if (!name) {
    if (req.method !== 'POST') return page(200, params.prompt === 'login' ? 'Please sign in again.' : '', passwordInputs(params.login_hint));
    name = fields.get('username');
    if (!users[name] || users[name].disabled || fields.get('password') !== passwordOf(name)) return page(401, 'Wrong user or password.', passwordInputs(params.login_hint));
    if (high) firstStepDone.set(uid, name);
  }
  if (high && fields.get('code') !== secondStep) return page(fields.has('code') ? 401 : 200, fields.has('code') ? 'Wrong code.' : `One more step, ${escaped(users[name].name)}.`, codeInputs);
  firstStepDone.delete(uid);
  return provider.interactionFinished(req, res, {
    login: { accountId: users[name].sub, ...(users[name].ago ? { ts: Math.floor(Date.now() / 1000) - users[name].ago } : {}), acr: high ? highLevel : lowLevel, amr: high ? ['pwd', 'otp'] : ['pwd'] },
  }, { mergeWithLastSubmission: false });
}

async function logout({ user, client: id, form: kind }) {
  const { sub } = users[user];
  const client = await provider.Client.find(id);
  const sids = [];
  for (const [uid, subject] of sessions) {
    const session = subject === sub && await provider.Session.findByUid(uid);
    if (!session) continue;
    if (session.authorizations?.[id]) sids.push(session.sidFor(id));
    await session.destroy();
  }
  if (kind === 'sub') client.backchannelLogoutSessionRequired = false;
  await Promise.all((kind === 'sub' ? [undefined] : sids).map((sid) => client.backchannelLogout(sub, sid)));
  client.backchannelLogoutSessionRequired = true;
  return sids.length;
}

const testing = {
  '/_test/counts': () => counts,
  '/_test/authorizations': () => authorizations,
  '/_test/user': ({ user, ...change }) => Object.assign(users[user] ??= {}, change),
  '/_test/logout': async (what) => ({ sessions: await logout(what) }),
};

const counts = {};
const protocol = provider.callback();
server.on('request', async (req, res) => {
  const { pathname } = new URL(req.url, issuer);
  counts[pathname] = (counts[pathname] ?? 0) + 1;
  try {
    if (testing[pathname]) {
      const body = req.method === 'POST' ? JSON.parse(await readBody(req)) : {};
      return res.end(JSON.stringify(await testing[pathname](body)));
    }
    if (pathname.startsWith('/interaction/')) return await interaction(req, res);
    return protocol(req, res);
  } catch (err) {
    console.log('request', pathname, err.message);
    if (!res.headersSent) res.writeHead(400);
    res.end(err.message);
  }
});
console.log(`OP ${issuer}`);
