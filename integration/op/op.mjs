// An OpenID-certified provider (npm: oidc-provider) for the integration tests. Loopback only, everything in memory.
//
//   PORT        port on 127.0.0.1 (0: a free one); the issuer is http://127.0.0.1:PORT
//   OP_MODULES  the node_modules folder that `integration/parts.sh` made
//   OP_CLIENTS  JSON list of client registrations
//
// The first line on standard output is "OP <issuer>" as soon as it answers. Every token request is counted:
// GET /_test/counts says how often each kind of request came.
// Keys are made at start, so a restart is a key rotation.
import crypto from 'node:crypto';
import http from 'node:http';

const { Provider } = await import(`${process.env.OP_MODULES}/oidc-provider/lib/index.js`);

// The subject differs from the user name on purpose: whoever mixes the two up fails a test.
const users = {
  dana: { sub: 'u-1001', name: 'Dana Doctor', email: 'dana@hospital.test', groups: ['grp-physicians', 'staff'] },
  pat: { sub: 'u-1002', name: 'Pat Patient', email: 'pat@hospital.test', groups: ['grp-patients'] },
  finn: { sub: 'u-1003', name: 'Finn Finance', email: 'finn@hospital.test', groups: ['grp-finance', 'staff'] },
  ext: { sub: 'u-1004', name: 'Ellis External', email: 'ellis@practice.test', groups: ['grp-external'] },
  admin: { sub: 'u-1005', name: 'Ada Admin', groups: ['grp-admins', 'grp-physicians'] },
  nobody: { sub: 'u-1006', name: 'Nia Nobody', email: 'nia@hospital.test', groups: [] },
  zoe: { sub: 'u-1007', name: 'Zoë Ünïcode', email: 'zoe@hospital.test', groups: ['grp-physicians', 'not-mapped'] },
};
const bySub = Object.fromEntries(Object.entries(users).map(([name, u]) => [u.sub, { ...u, preferred_username: name }]));
const passwordOf = (name) => `${name}-pw`;

const makeKey = (alg, type, options) => ({
  ...crypto.generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
  alg, use: 'sig', kid: `${alg.toLowerCase()}-${crypto.randomBytes(4).toString('hex')}`,
});
const keys = [
  makeKey('RS256', 'rsa', { modulusLength: 2048 }),
  makeKey('ES256', 'ec', { namedCurve: 'P-256' }),
  makeKey('EdDSA', 'ed25519'),
];

const server = http.createServer();
await new Promise((done) => server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: JSON.parse(process.env.OP_CLIENTS ?? '[]'),
  jwks: { keys },
  cookies: { keys: [crypto.randomBytes(24).toString('hex')] },
  claims: {
    openid: ['sub', 'auth_time', 'acr', 'amr'],
    profile: ['name', 'preferred_username', 'groups'],
    email: ['email'],
  },
  conformIdTokenClaims: false, // claims of the scopes are in the ID token too, as most hospital providers do it
  acrValues: ['urn:example:mfa'],
  pkce: { required: () => true },
  async findAccount(ctx, sub) {
    return bySub[sub] && { accountId: sub, claims: async () => bySub[sub] };
  },
  async loadExistingGrant(ctx) { // no consent page: the hospital consented for its own application
    const { client, session, params } = ctx.oidc;
    const id = session.grantIdFor(client.clientId);
    const grant = (id && await provider.Grant.find(id)) || new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope(params.scope);
    await grant.save();
    return grant;
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 300, IdToken: 300, Session: 3600, Grant: 3600, Interaction: 600, AuthorizationCode: 60 },
  features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true } },
});
for (const event of ['server_error', 'authorization.error', 'grant.error', 'userinfo.error']) {
  provider.on(event, (ctx, err) => console.log(event, err?.error_description ?? err?.message ?? ''));
}

const form = (message) => `<!doctype html><html lang="en"><title>Hospital sign-in</title>
<h1>Hospital sign-in</h1>${message ? `<p role="alert">${message}</p>` : ''}
<form method="post"><p><label>User <input name="username" id="u" autocomplete="username"></label>
<p><label>Password <input name="password" id="p" type="password" autocomplete="current-password"></label>
<p><button id="go">Sign in</button></form></html>`;

async function readBody(req) {
  let text = '';
  for await (const chunk of req) text += chunk;
  return text;
}

async function interaction(req, res) {
  const { params } = await provider.interactionDetails(req, res);
  const page = (status, message) => { res.writeHead(status, { 'content-type': 'text/html; charset=utf-8' }); res.end(form(message)); };
  if (req.method !== 'POST') return page(200, params.prompt === 'login' ? 'Please sign in again.' : '');
  const fields = new URLSearchParams(await readBody(req));
  const name = fields.get('username');
  if (!users[name] || fields.get('password') !== passwordOf(name)) return page(401, 'Wrong user or password.');
  return provider.interactionFinished(req, res, {
    login: { accountId: users[name].sub, acr: 'urn:example:mfa', amr: ['pwd', 'otp'] },
  }, { mergeWithLastSubmission: false });
}

const counts = {};
const protocol = provider.callback();
server.on('request', async (req, res) => {
  const { pathname } = new URL(req.url, issuer);
  counts[pathname] = (counts[pathname] ?? 0) + 1;
  try {
    if (pathname === '/_test/counts') return res.end(JSON.stringify(counts));
    if (pathname.startsWith('/interaction/')) return await interaction(req, res);
    return protocol(req, res);
  } catch (err) {
    console.log('request', pathname, err.message);
    if (!res.headersSent) res.writeHead(400);
    res.end(err.message);
  }
});
console.log(`OP ${issuer}`);
