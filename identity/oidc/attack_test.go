package oidc

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func TestC17OnlyMappedClaims(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t, idptest.SetClaim("roles", []string{"doctor", "admin", "root"}), idptest.SetClaim("org", "x"), idptest.SetClaim("phone_number", "1"))
	if strings.Join(who.Roles, ",") != "doctor" || who.Org != "" {
		t.Errorf("got %+v", who)
	}
}

func TestC23WarnsAboutRolesByReference(t *testing.T) {
	r := newRig(t, nil)
	for _, row := range idptest.Rows() {
		if row.Module == "distributed-claims" {
			who, err := r.attempt(t, append(row.Faults, idptest.UserInfo(func(u map[string]any) { delete(u, "roles") }))...)
			if err != nil || len(who.Roles) != 0 {
				t.Fatalf("got %v, %v", who.Roles, err)
			}
		}
	}
	if !strings.Contains(r.log.String(), "by reference") {
		t.Error("nobody is told why the roles are missing")
	}
}

func TestC25C26FetchedOnce(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	metadata, keys := r.server.Count(idptest.AtMetadata), r.server.Count(idptest.AtKeys)
	r.accepts(t)
	if metadata != 1 || keys != 1 || r.server.Count(idptest.AtMetadata)+r.server.Count(idptest.AtKeys) != 0 {
		t.Errorf("first sign-in: %d and %d; second: %d and %d", metadata, keys, r.server.Count(idptest.AtMetadata), r.server.Count(idptest.AtKeys))
	}
}

func TestC28RotationBetweenSignIns(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	r.server.Rotate()
	r.accepts(t)
	if n := r.server.Count(idptest.AtKeys); n != 1 {
		t.Errorf("%d requests for the keys, want 1", n)
	}
}

func TestC29RotationBeforeSigning(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	r.accepts(t, idptest.RotateBeforeSigning())
	if n := r.server.Count(idptest.AtKeys); n != 1 {
		t.Errorf("%d requests for the keys, want 1", n)
	}
}

// callbackCase changes what the browser brings back.
type callbackCase struct {
	name   string
	change func(url.Values)
	kind   error
	reason string
}

func set(name string, values ...string) func(url.Values) {
	return func(q url.Values) { q[name] = values }
}

func callbackCases(issuer string) []callbackCase {
	long := strings.Repeat("x", 1<<20)
	return []callbackCase{
		{"N1 iss of somebody else", set("iss", "https://other.example"), identity.ErrRefused, "callback.iss"},
		{"N1 iss with a slash", set("iss", issuer+"/"), identity.ErrRefused, "callback.iss"},
		{"N1 iss in another case", set("iss", strings.ToUpper(issuer)), identity.ErrRefused, "callback.iss"},
		{"N1 iss of somebody else in an error", func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("iss", "https://other.example")
		}, identity.ErrRefused, "callback.iss"},
		{"N1 iss empty", set("iss", ""), identity.ErrRefused, "callback.iss"},
		{"N2 iss missing", func(q url.Values) { q.Del("iss") }, identity.ErrRefused, "callback.iss_missing"},
		{"N2 iss missing in an error", func(q url.Values) { q.Del("iss"); q.Del("code"); q.Set("error", "access_denied") }, identity.ErrRefused, "callback.iss_missing"},
		{"N3 state altered", set("state", started.State+"x"), identity.ErrRefused, "callback.state"},
		{"N3 state altered in an error", func(q url.Values) { q.Set("state", "x"); q.Del("code"); q.Set("error", "access_denied") }, identity.ErrRefused, "callback.state"},
		{"N4 state missing", func(q url.Values) { q.Del("state") }, identity.ErrRefused, "callback.state"},
		{"N4 state empty", set("state", ""), identity.ErrRefused, "callback.state"},
		{"N28 two codes", set("code", "a", "b"), identity.ErrRefused, "callback.duplicate"},
		{"N28 the same code twice", func(q url.Values) { q["code"] = append(q["code"], q["code"]...) }, identity.ErrRefused, "callback.duplicate"},
		{"N28 two states", set("state", started.State, started.State), identity.ErrRefused, "callback.duplicate"},
		{"N28 two iss", set("iss", issuer, issuer), identity.ErrRefused, "callback.duplicate"},
		{"N28 two errors", func(q url.Values) { q.Del("code"); q["error"] = []string{"a", "b"} }, identity.ErrRefused, "callback.duplicate"},
		{"N28 code and error", set("error", "access_denied"), identity.ErrRefused, "callback.code_and_error"},
		{"N28 id_token", set("id_token", "x"), identity.ErrRefused, "callback.token"},
		{"N28 access_token", set("access_token", "x"), identity.ErrRefused, "callback.token"},
		{"6-A.5 code missing", func(q url.Values) { q.Del("code") }, identity.ErrRefused, "callback.code"},
		{"6-A.5 code empty", set("code", ""), identity.ErrRefused, "callback.code"},
		{"6-A.5 code of 1 MiB", set("code", long), identity.ErrRefused, "callback.code"},
		{"6-A.5 state of 1 MiB", set("state", long), identity.ErrRefused, "callback.state"},
		{"6-A.5 iss of 1 MiB", set("iss", long), identity.ErrRefused, "callback.iss"},
		{"6-A.5 error of 1 MiB", func(q url.Values) { q.Del("code"); q.Set("error", long) }, identity.ErrRefused, "callback.error"},
		{"6-A.5 code with a line break", set("code", "a\r\nb"), identity.ErrRefused, "callback.code"},
		{"6-A.5 nothing at all", func(q url.Values) { clear(q) }, identity.ErrRefused, "callback.state"},
		{"N38 login_required", func(q url.Values) { q.Del("code"); q.Set("error", "login_required") }, identity.ErrDeclined, "declined.login_required"},
		{"N38 interaction_required", func(q url.Values) { q.Del("code"); q.Set("error", "interaction_required") }, identity.ErrDeclined, "declined.interaction_required"},
		{"N38 consent_required", func(q url.Values) { q.Del("code"); q.Set("error", "consent_required") }, identity.ErrDeclined, "declined.consent_required"},
		{"R15 the person said no", func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("error_description", "<script>alert(1)")
		}, identity.ErrDeclined, "declined.access_denied"},
		{"R15 unknown error", func(q url.Values) { q.Del("code"); q.Set("error", "<script>alert(1)") }, identity.ErrDeclined, "declined.other"},
	}
}

// No callback that is wrong in any way makes us send a code anywhere.
func TestCallbackRows(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range callbackCases(r.server.URL) {
		t.Run(c.name, func(t *testing.T) {
			r.server.Forget()
			step := r.begin(t)
			cb := back(step, r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor"))
			c.change(cb.Query)
			who, err := r.source.Finish(context.Background(), cb)
			wantFailure(t, who, err, c.kind, c.reason)
			if n := r.server.Count(idptest.AtToken) + r.server.Count(idptest.AtUserInfo); n != 0 {
				t.Errorf("%d requests to the provider, want none", n)
			}
			r.noText(t, err, "script")
		})
	}
}

// The provider's own faults in the response, through the browser.
func TestResponseFaults(t *testing.T) {
	r := newRig(t, nil)
	for name, c := range map[string]struct {
		fault  idptest.Fault
		reason string
	}{
		"N1": {idptest.SetParameter("iss", "https://other.example"), "callback.iss"},
		"N2": {idptest.DropParameter("iss"), "callback.iss_missing"},
		"N3": {idptest.SetParameter("state", "other"), "callback.state"},
		"N4": {idptest.DropParameter("state"), "callback.state"},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := r.attempt(t, c.fault)
			wantFailure(t, who, err, identity.ErrRefused, c.reason)
			if n := r.server.Count(idptest.AtToken); n != 0 {
				t.Errorf("%d token requests, want none", n)
			}
		})
	}
}

func TestIssNotPromised(t *testing.T) {
	r := newRig(t, nil)
	silent := idptest.Metadata(func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") })
	r.accepts(t, silent, idptest.DropParameter("iss"))
	who, err := r.attempt(t, silent, idptest.SetParameter("iss", "https://other.example"))
	wantFailure(t, who, err, identity.ErrRefused, "callback.iss")
}

// N23, N26: a callback without what Begin kept, or with another attempt's.
func TestAttemptRows(t *testing.T) {
	r := newRig(t, nil)
	edit := func(change func(*kept)) func([]byte) []byte {
		return func(keep []byte) []byte {
			var k kept
			if err := json.Unmarshal(keep, &k); err != nil {
				t.Fatal(err)
			}
			change(&k)
			out, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		reason string
	}{
		{"N23 nothing kept", func([]byte) []byte { return nil }, "attempt.keep"},
		{"N23 empty object", func([]byte) []byte { return []byte("{}") }, "attempt.keep"},
		{"N23 null", func([]byte) []byte { return []byte("null") }, "attempt.keep"},
		{"N23 rubbish", func([]byte) []byte { return []byte("\x00\xff") }, "attempt.keep"},
		{"N23 far too long", func(k []byte) []byte { return append(k, strings.Repeat(" ", maxKeep)...) }, "attempt.keep"},
		{"6-A.5 no nonce", edit(func(k *kept) { k.Nonce = "" }), "attempt.keep"},
		{"6-A.5 no verifier", edit(func(k *kept) { k.Verifier = "" }), "attempt.keep"},
		{"6-A.5 no state", edit(func(k *kept) { k.State = "" }), "attempt.keep"},
		{"N24 other source", edit(func(k *kept) { k.Source = "clinic" }), "attempt.source"},
		{"N24 other issuer", edit(func(k *kept) { k.Issuer = "https://other.example" }), "attempt.source"},
		{"N24 other callback", edit(func(k *kept) { k.Callback += "2" }), "attempt.callback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.server.Forget()
			step := r.begin(t)
			cb := back(step, r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor"))
			cb.Keep = c.change(cb.Keep)
			who, err := r.source.Finish(context.Background(), cb)
			wantFailure(t, who, err, identity.ErrRefused, c.reason)
			if n := r.server.Count(idptest.AtToken); n != 0 {
				t.Errorf("%d token requests, want none", n)
			}
		})
	}
}

// N21, N22: the same callback twice. Portal stops the second one; if it did
// not, the provider would.
func TestN21N22CodeTwice(t *testing.T) {
	r := newRig(t, nil)
	step := r.begin(t)
	cb := back(step, r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor"))
	if _, err := r.source.Finish(context.Background(), cb); err != nil {
		t.Fatal(err)
	}
	r.server.Forget()
	who, err := r.source.Finish(context.Background(), cb)
	wantFailure(t, who, err, identity.ErrRefused, "token.invalid_grant")
	if n := r.server.Count(idptest.AtToken); n != 1 {
		t.Errorf("%d token requests, want 1: no second try", n)
	}
}

// N24: the honest provider's code never reaches another one, neither by the
// other's callback nor by metadata that points at the honest one.
func TestN24MixUp(t *testing.T) {
	honest := newRig(t, nil)
	evil := newRig(t, func(c *Config) { c.Name = "evil" })
	t.Run("N24 honest code at the other's callback", func(t *testing.T) {
		mine, theirs := honest.begin(t), evil.begin(t)
		to := honest.browser.SignIn(t, mine.RedirectURL, "doctor", "doctor")
		who, err := evil.source.Finish(context.Background(), back(theirs, to))
		wantFailure(t, who, err, identity.ErrRefused, "callback.iss")
		who, err = evil.source.Finish(context.Background(), back(mine, to))
		wantFailure(t, who, err, identity.ErrRefused, "attempt.source")
	})
	t.Run("N24 metadata with the honest authorization endpoint", func(t *testing.T) {
		evil := newRig(t, func(c *Config) { c.Name = "evil" })
		evil.server.Use(idptest.Metadata(func(m map[string]any) { m["authorization_endpoint"] = honest.server.URL + "/authorize" }))
		step := evil.begin(t)
		who, err := evil.source.Finish(context.Background(), back(step, honest.browser.SignIn(t, step.RedirectURL, "doctor", "doctor")))
		wantFailure(t, who, err, identity.ErrRefused, "callback.iss")
		if n := evil.server.Count(idptest.AtToken); n != 0 {
			t.Errorf("the honest provider's code was sent to the other %d times", n)
		}
	})
	if n := evil.server.Count(idptest.AtToken); n != 0 {
		t.Errorf("%d token requests", n)
	}
}

// N27: the victim's code in the attacker's own attempt.
func TestN27CodeInjection(t *testing.T) {
	r := newRig(t, nil)
	victim, attacker := r.begin(t), r.begin(t)
	code := r.browser.SignIn(t, victim.RedirectURL, "doctor", "doctor").Query().Get("code")
	cb := back(attacker, r.server.SignIn(t, attacker.RedirectURL, "nobody", "nobody"))
	cb.Query.Set("code", code)
	who, err := r.source.Finish(context.Background(), cb)
	wantFailure(t, who, err, identity.ErrRefused, "token.invalid_grant")
}

// N27 at a provider that ignores PKCE: the nonce still tells.
func TestN27NonceReplay(t *testing.T) {
	r := newRig(t, nil)
	var first string
	r.accepts(t, idptest.TokenAnswer(func(a map[string]any) { first = a["id_token"].(string) }))
	r.refuses(t, "idtoken.nonce", idptest.TokenAnswer(func(a map[string]any) { a["id_token"] = first }))
}

func TestN42TwoTabs(t *testing.T) {
	r := newRig(t, nil)
	first, second := r.begin(t), r.begin(t)
	for _, step := range []identity.Step{second, first} {
		to := r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor")
		if _, err := r.source.Finish(context.Background(), back(step, to)); err != nil {
			t.Fatal(err)
		}
	}
}

// N44: a provider of many tenants answers for another one.
func TestN44OtherTenant(t *testing.T) {
	r := newRig(t, nil)
	r.refuses(t, "idtoken.iss", idptest.SetClaim("iss", r.server.URL+"/{tenantid}"))
	r.refuses(t, "idtoken.iss", idptest.SetClaim("iss", r.server.URL+"/other-tenant"))
}

// Requirement 31: the account key holds the issuer, and an address that the
// provider did not check is neither a name nor passed on.
func TestR31Email(t *testing.T) {
	byMail := func(c *Config) { c.Claims.Username = "email" }
	for name, value := range map[string]any{"false": false, "false as a string": "false", "a number": 1} {
		t.Run("R31 unverified: "+name, func(t *testing.T) {
			r := newRig(t, byMail)
			who, err := r.attempt(t, idptest.SetClaim("email_verified", value))
			wantFailure(t, who, err, identity.ErrRefused, "username.unverified")
			r = newRig(t, nil)
			if who := r.accepts(t, idptest.SetClaim("email_verified", value)); who.Email != "" {
				t.Errorf("passed on: %q", who.Email)
			}
		})
	}
	t.Run("R31 nobody says it", func(t *testing.T) {
		r := newRig(t, byMail)
		who, err := r.attempt(t, idptest.DropClaims("email_verified"), idptest.UserInfo(func(u map[string]any) { delete(u, "email_verified") }))
		wantFailure(t, who, err, identity.ErrRefused, "username.unverified")
	})
	t.Run("R31 userinfo says it", func(t *testing.T) {
		r := newRig(t, byMail)
		who, err := r.attempt(t, idptest.DropClaims("name", "email_verified"), idptest.UserInfo(func(u map[string]any) { u["email_verified"] = false }))
		wantFailure(t, who, err, identity.ErrRefused, "username.unverified")
	})
	r := newRig(t, byMail)
	who, err := r.attempt(t)
	if err != nil || who.Username != "doctor@hospital.example" {
		t.Fatalf("got %q, %v", who.Username, err)
	}
}

// Requirement 40: what a claim brings cannot become a header.
func TestR40Injection(t *testing.T) {
	r := newRig(t, nil)
	who, err := r.attempt(t, idptest.SetClaim("preferred_username", "a\r\nX-Role: admin"))
	wantFailure(t, who, err, identity.ErrRefused, "identity.username")
	who, err = r.attempt(t, idptest.SetClaim("name", "a\nb"))
	wantFailure(t, who, err, identity.ErrRefused, "identity.name")
	if strings.Contains(r.log.String(), "X-Role") {
		t.Error("the claim is in the log")
	}
}
