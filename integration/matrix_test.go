package integration

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// Row J68: every kind of token at every place that reads one. All of the provider's tokens have the same key, issuer and subject,
// and name the same client; ours are genuine.

// crossing is one installation with all seven places.
type crossing struct {
	*rig
	op    *scripted
	proof *ecdsa.PrivateKey // the key of the client that holds bound tokens
	held  string            // the token that proofs are made for
	dana  *session
	seq   int
}

// kinds of tokens, and the place where each belongs.
const (
	kindID        = "ID token"
	kindLogout    = "logout token"
	kindAccess    = "access token"
	kindProof     = "DPoP proof"
	kindUserinfo  = "signed userinfo"
	kindSession   = "session JWT"
	kindAssertion = "Anteroom-Assertion"
)

const matrixAudience = "https://third.test/records"

const matrixConfig = `{` + globals + `
	anteroom {
		identity oidc hospital {
			issuer $OP
			client_id anteroom
			client_secret {file.$DIR/oidc.secret}
			roles_claim groups
			role doctor from "grp-physicians"
		}
		identity oidc thin {
			issuer $OP
			client_id anteroom
			client_secret {file.$DIR/oidc.secret}
			userinfo signed
			roles_claim groups
			role doctor from "grp-physicians"
			username_prefix "thin:"
		}
		bearer apps {
			issuer $OP
			username_prefix "app:"
		}
	}
}

app.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow any /members/**
	}
	reverse_proxy $DUMP
}

third.test:$PORT {
	tls $CERT $KEY
	anteroom {
		bearer from apps
		bearer audience ` + matrixAudience + `
		bearer unbound allow
		allow scope system/Observation.rs GET
		allow role doctor
	}
	reverse_proxy $DUMP
}
`

func TestJ68Matrix(t *testing.T) {
	m := newCrossing(t)
	kinds := map[string]func(t *testing.T, nonce string) string{
		kindID: m.idToken, kindLogout: m.logoutToken, kindAccess: m.accessToken, kindProof: m.proofFor(m.target()),
		kindUserinfo: m.userinfoToken, kindSession: m.sessionToken, kindAssertion: m.assertion,
	}
	places := map[string]place{
		kindID: m.atCallback, kindLogout: m.atBackchannel, kindAccess: m.atAuthorization, kindProof: m.atDPoP,
		kindUserinfo: m.atUserinfo, kindSession: m.atCookie, kindAssertion: m.atApplication,
	}
	accepted := 0
	for _, at := range slices.Sorted(maps.Keys(places)) {
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			t.Run("J68 "+kind+" as "+at, func(t *testing.T) {
				m.dump.take()
				got := places[at](t, func(nonce string) string { return kinds[kind](t, nonce) })
				if got != (at == kind) {
					t.Errorf("accepted: %v", got)
				}
				if got {
					accepted++
				}
				if reached := m.dump.take(); at != kind && len(reached) > 0 {
					t.Errorf("the request reached the application:\n%s", reached[0].Head)
				}
			})
		}
	}
	if accepted != 7 {
		t.Errorf("%d of 49 are accepted, want the seven of the diagonal", accepted)
	}
	t.Run("J68 without types", func(t *testing.T) { m.untyped(t, places) })
	t.Run("J31 with the type of another kind", func(t *testing.T) { m.mistyped(t, places) })
}

// place says whether a token is accepted; the token may need the nonce of the sign-in that it is for.
type place = func(t *testing.T, token func(nonce string) string) bool

// fit are the claims that each place which believes the provider wants.
func (m *crossing) fit() map[string]func(nonce string) map[string]any {
	return map[string]func(string) map[string]any{
		kindID: m.idClaims, kindLogout: func(string) map[string]any { return m.logoutClaims() },
		kindAccess: func(string) map[string]any { return m.accessClaims() }, kindUserinfo: func(string) map[string]any { return m.userinfoClaims() },
	}
}

// untyped: the provider may leave typ away, or say JWT for everything; what is inside tells the kinds apart then.
func (m *crossing) untyped(t *testing.T, places map[string]place) {
	for _, typ := range []string{"", "JWT"} {
		for kind, claims := range m.fit() {
			for at := range m.fit() {
				got := places[at](t, func(nonce string) string { return m.op.sign(t, typ, claims(nonce)) })
				if got && at != kind {
					t.Errorf("typ %q: a %s is taken for a %s", typ, kind, at)
				}
				if !got && at == kind && kind != kindAccess { // RFC 9068: an access token says that it is one
					t.Errorf("typ %q: a %s is refused", typ, kind)
				}
			}
		}
	}
}

// mistyped: all that a place wants to read, in a token that says it is something else.
func (m *crossing) mistyped(t *testing.T, places map[string]place) {
	own := map[string][]string{kindLogout: {"logout+jwt"}, kindAccess: {"at+jwt", "application/at+jwt"}}
	for at, claims := range m.fit() {
		for _, typ := range []string{"logout+jwt", "at+jwt", "application/at+jwt", "dpop+jwt", "anteroom+jwt", "anteroom-assertion+jwt", "secevent+jwt"} {
			if got := places[at](t, func(nonce string) string { return m.op.sign(t, typ, claims(nonce)) }); got != slices.Contains(own[at], typ) {
				t.Errorf("for a %s with typ %s: accepted %v", at, typ, got)
			}
		}
	}
}

func newCrossing(t *testing.T) *crossing {
	t.Helper()
	op := startScripted(t)
	r := prepareAt(t, freePort(t), &provider{issuer: op.issuer}, startDump(t), matrixConfig)
	r.run(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &crossing{rig: r, op: op, proof: key}
	b := newBrowser(t)
	if !m.signIn(t, b, appHost, "hospital", func(nonce string) string { return m.idToken(t, nonce) }, "") {
		t.Fatal("nobody can sign in")
	}
	_, cookies := b.cookies(t, m.url(appHost, "/"))
	m.dana = &session{"dana", cookies[cookieToken], cookies[cookieContext]}
	return m
}

// Claims of the provider's tokens. Each has what its kind demands, and the issuer, subject, times and audiences of all others.

func (m *crossing) claims(more map[string]any) map[string]any {
	m.seq++
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": m.op.issuer, "sub": "u-1001", "iat": now, "exp": now + 100, "jti": "token-" + strconv.Itoa(m.seq),
	}
	maps.Copy(claims, more)
	return claims
}

func (m *crossing) person() map[string]any {
	return map[string]any{"preferred_username": "dana", "name": "Dana Doctor", "email": "dana@hospital.test", "groups": []string{"grp-physicians"}}
}

func (m *crossing) idClaims(nonce string) map[string]any {
	claims := m.claims(m.person())
	claims["aud"], claims["nonce"], claims["auth_time"], claims["sid"] = "anteroom", nonce, time.Now().Unix(), "provider-session"
	return claims
}

func (m *crossing) logoutClaims() map[string]any {
	return m.claims(map[string]any{"aud": "anteroom", "sid": "nobody's", "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}})
}

func (m *crossing) accessClaims() map[string]any {
	return m.claims(map[string]any{"aud": matrixAudience, "client_id": "anteroom", "scope": "openid system/Observation.rs"})
}

func (m *crossing) userinfoClaims() map[string]any {
	claims := m.person()
	claims["iss"], claims["sub"], claims["aud"] = m.op.issuer, "u-1001", "anteroom"
	return claims
}

func (m *crossing) idToken(t *testing.T, nonce string) string {
	return m.op.sign(t, "JWT", m.idClaims(nonce))
}
func (m *crossing) logoutToken(t *testing.T, _ string) string {
	return m.op.sign(t, "logout+jwt", m.logoutClaims())
}
func (m *crossing) accessToken(t *testing.T, _ string) string {
	return m.op.sign(t, "at+jwt", m.accessClaims())
}
func (m *crossing) userinfoToken(t *testing.T, _ string) string {
	return m.op.sign(t, "JWT", m.userinfoClaims())
}
func (m *crossing) sessionToken(*testing.T, string) string { return m.dana.token }

// assertion is a fresh one, as the application gets it.
func (m *crossing) assertion(t *testing.T, _ string) string {
	t.Helper()
	m.dump.take()
	if status := m.status(t, appHost, "/members/x", m.dana); status != http.StatusOK {
		t.Fatalf("dana is answered %d", status)
	}
	got := m.dump.take()
	if len(got) != 1 || len(got[0].values("Anteroom-Assertion")) != 1 {
		t.Fatal("the application gets no assertion")
	}
	return got[0].values("Anteroom-Assertion")[0]
}

// bound is an access token that is bound to the client's key.
func (m *crossing) bound(t *testing.T) string {
	t.Helper()
	jkt, err := jws.Thumbprint(&m.proof.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	claims := m.accessClaims()
	claims["cnf"] = map[string]any{"jkt": jkt}
	return m.op.sign(t, "at+jwt", claims)
}

func (m *crossing) target() string { return m.url(thirdHost, "/records/x") }

func (m *crossing) proofFor(target string) func(*testing.T, string) string {
	return func(t *testing.T, _ string) string {
		t.Helper()
		public, err := jws.JWK(&m.proof.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		m.seq++
		sum := sha256.Sum256([]byte(m.held))
		proof, err := jws.SignWith(m.proof, "ES256", map[string]any{"typ": "dpop+jwt", "jwk": public}, map[string]any{
			"htm": "GET", "htu": target, "iat": time.Now().Unix(), "jti": "proof-" + strconv.Itoa(m.seq), "ath": base64.RawURLEncoding.EncodeToString(sum[:]),
		})
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
}

// The places. Each says whether what it was given was accepted.

func (m *crossing) signIn(t *testing.T, b *browser, host, source string, token func(nonce string) string, userinfo string) bool {
	t.Helper()
	p := b.do(t, navigation(t, "GET", m.url(host, "/.anteroom/login/"+source+"?return_to=/.anteroom/"), ""))
	asked, err := url.Parse(p.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(asked.String(), m.op.issuer) {
		t.Fatalf("the sign-in begins with %d %q", p.Status, p.Header.Get("Location"))
	}
	q := asked.Query()
	m.op.answer(token(q.Get("nonce")), userinfo)
	back := q.Get("redirect_uri") + "?" + url.Values{"code": {"abc"}, "state": {q.Get("state")}, "iss": {m.op.issuer}}.Encode()
	b.follow(t, b.do(t, navigation(t, "GET", back, "")))
	_, cookies := b.cookies(t, m.url(host, "/"))
	return cookies[cookieToken] != "" && cookies[cookieContext] != ""
}

func (m *crossing) atCallback(t *testing.T, token func(string) string) bool {
	return m.signIn(t, newBrowser(t), appHost, "hospital", token, "")
}

func (m *crossing) atUserinfo(t *testing.T, token func(string) string) bool {
	thin := func(nonce string) string {
		claims := m.idClaims(nonce)
		for name := range m.person() {
			delete(claims, name)
		}
		return m.op.sign(t, "JWT", claims)
	}
	return m.signIn(t, newBrowser(t), appHost, "thin", thin, token(""))
}

func (m *crossing) atBackchannel(t *testing.T, token func(string) string) bool {
	req, err := http.NewRequest("POST", m.url(appHost, "/.anteroom/backchannel/hospital"), strings.NewReader(url.Values{"logout_token": {token("")}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return newBrowser(t).do(t, req).Status == http.StatusOK
}

func (m *crossing) atAuthorization(t *testing.T, token func(string) string) bool {
	return again(t, m.target(), map[string]string{"Authorization": "Bearer " + token("")}).Status == http.StatusOK
}

func (m *crossing) atDPoP(t *testing.T, token func(string) string) bool {
	m.held = m.bound(t)
	return again(t, m.target(), map[string]string{"Authorization": "DPoP " + m.held, "DPoP": token("")}).Status == http.StatusOK
}

func (m *crossing) atCookie(t *testing.T, token func(string) string) bool {
	return m.status(t, appHost, "/members/x", &session{"dana", token(""), m.dana.context}) == http.StatusOK
}

// atApplication verifies as docs/nodes.md tells applications to.
func (m *crossing) atApplication(t *testing.T, token func(string) string) bool {
	text := token("")
	if err := m.verifyAssertion(t, text); err != nil {
		t.Log(err)
		return false
	}
	return true
}

func (m *crossing) verifyAssertion(t *testing.T, text string) error {
	t.Helper()
	token, err := jws.Parse(text)
	if err != nil {
		return err
	}
	if !jws.TypeIs(token.Header.Typ, "anteroom-assertion+jwt") {
		return fmt.Errorf("typ is %q", token.Header.Typ)
	}
	var set struct {
		Keys []struct{ Kid, Alg, X string }
	}
	p := again(t, m.url(appHost, "/.anteroom/jwks.json"), nil)
	if err := json.Unmarshal([]byte(p.Body), &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Kid != token.Header.Kid {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil {
			return err
		}
		if err := token.Verify("EdDSA", ed25519.PublicKey(x)); err != nil {
			return err
		}
		claims, err := token.Claims()
		if err != nil {
			return err
		}
		if audience, _, err := claims.Strings("aud"); err != nil || !slices.Equal(audience, []string{appHost}) {
			return fmt.Errorf("aud is %v, %v", audience, err)
		}
		return nil
	}
	return fmt.Errorf("no key %q", token.Header.Kid)
}
