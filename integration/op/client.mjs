// A client of a resource server, as an application's makers write one: the npm package openid-client. One job, given in CLIENT_JOB:
//
//   {"issuer", "client_id", "client_secret", "grant": "client_credentials"|"authorization_code", "dpop": true|false, "acr_values"?,
//    "scope", "resource", "redirect_uri"?, "calls": [{"name", "method", "url", "body"?, "as"?, "token"?: "stolen"}]}
//
//   as      "bearer": the token goes without a proof, whatever it is bound to
//   token   "stolen": the proof is made with another key than the token's
//
// With a code, the first line on standard output is "AUTHORIZE <url>"; the person's browser ends at redirect_uri, where we
// listen. The last line is "DONE <JSON>": for each call its name, status, body, headers, challenges as openid-client read them,
// and what was sent, so that a test can send it once more. OP_MODULES and the names in .test are as in op.mjs.
import dns from 'node:dns';
import http from 'node:http';

const client = await import(`${process.env.OP_MODULES}/openid-client/build/index.js`);
const job = JSON.parse(process.env.CLIENT_JOB);

const realLookup = dns.lookup;
dns.lookup = (host, options, done) => (host.endsWith('.test') ? realLookup('127.0.0.1', options, done) : realLookup(host, options, done));

const config = await client.discovery(new URL(job.issuer), job.client_id, {}, client.ClientSecretBasic(job.client_secret), { execute: [client.allowInsecureRequests] });
const dpop = job.dpop ? client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) : undefined;
const thief = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'));

let sent;
config[client.customFetch] = (url, options) => {
  sent = { url: String(url), headers: Object.fromEntries(new Headers(options.headers)) };
  return fetch(url, options);
};

async function authorize() {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const address = client.buildAuthorizationUrl(config, {
    redirect_uri: job.redirect_uri, scope: job.scope, resource: job.resource, state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    ...(job.acr_values ? { acr_values: job.acr_values } : {}),
    ...(dpop ? { dpop_jkt: await dpop.calculateThumbprint() } : {}),
  });
  const answer = await new Promise((done) => {
    const server = http.createServer((req, res) => {
      res.end('Thank you. The application goes on.');
      server.close();
      done(new URL(req.url, job.redirect_uri));
    }).listen(Number(new URL(job.redirect_uri).port), '127.0.0.1', () => console.log(`AUTHORIZE ${address}`));
  });
  return client.authorizationCodeGrant(config, answer, { pkceCodeVerifier: verifier, expectedState: state }, { resource: job.resource }, { DPoP: dpop });
}

const tokens = job.grant === 'authorization_code'
  ? await authorize()
  : await client.clientCredentialsGrant(config, { scope: job.scope, resource: job.resource }, { DPoP: dpop });

async function call({ name, method, url, body, as, token }) {
  const headers = new Headers({ accept: 'application/fhir+json', ...(body ? { 'content-type': 'application/fhir+json' } : {}) });
  const result = { name };
  let response;
  try {
    response = await client.fetchProtectedResource(config, tokens.access_token, new URL(url), method, body, headers,
      as === 'bearer' ? {} : { DPoP: token === 'stolen' ? thief : dpop });
  } catch (err) {
    if (!err.response && !err.cause) throw err;
    response = err.response;
    result.challenges = err.cause;
  }
  return { ...result, status: response.status, headers: Object.fromEntries(response.headers), cookies: response.headers.getSetCookie(), body: response.bodyUsed ? '' : await response.text(), sent };
}

const results = [];
for (const one of job.calls) results.push(await call(one));
console.log(`DONE ${JSON.stringify({ token: tokens.access_token, token_type: tokens.token_type, scope: tokens.scope, calls: results })}`);
process.exit(0);
