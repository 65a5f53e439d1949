package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// badSource is an identity source at a misbehaving provider.
const badSource = `
		identity oidc %[1]s {
			issuer %[2]s
			client_id %[3]s
			client_secret {file.$DIR/%[1]s.secret}
			roles_claim roles
			username_prefix "%[1]s:"
			role doctor from doctor
		}
`

// newMisbehaving starts bin/anteroom with one source for each server. The names are s0, s1 …
func newMisbehaving(t testing.TB, servers int) (*rig, []*idptest.Server) {
	t.Helper()
	r := prepare(t, "")
	var blocks strings.Builder
	var all []*idptest.Server
	for i := range servers {
		name := fmt.Sprintf("s%d", i)
		server := idptest.New(t, r.url(appHost, "/.anteroom/callback/"+name))
		fmt.Fprintf(&blocks, badSource, name, server.URL, server.ClientID)
		write(t, r.dir+"/"+name+".secret", server.ClientSecret)
		all = append(all, server)
	}
	r.configure(t, strings.Replace(standard, hospital, hospital+blocks.String(), 1))
	r.run(t)
	return r, all
}

// signInAt goes the whole way with a browser. It returns the last page of ours and whether the provider was asked for a sign-in.
func (r *rig) signInAt(t testing.TB, b *browser, name string, server *idptest.Server) (p page, redirected bool) {
	t.Helper()
	p = b.do(t, navigation(t, "GET", r.url(appHost, "/.anteroom/login/"+name+"?return_to=/members/x"), ""))
	location := p.Header.Get("Location")
	if !strings.HasPrefix(location, server.URL) {
		return p, false
	}
	callback := server.SignIn(t, location, "doctor", "doctor")
	return b.do(t, navigation(t, "GET", callback.String(), "")), true
}

// TestMisbehavingProvider runs the modules of the OpenID conformance suite through the binary. The table with every detail is
// that of identity/oidc; here it must hold for what a browser gets, for the audit log and for the requests that are made.
func TestMisbehavingProvider(t *testing.T) {
	rows := idptest.Rows()
	if len(rows) < 20 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	r, servers := newMisbehaving(t, len(rows))
	for i, row := range rows {
		t.Run(row.ID+" "+row.Module, func(t *testing.T) {
			server, name := servers[i], fmt.Sprintf("s%d", i)
			server.Use(row.Faults...)
			b := newBrowser(t)
			p, redirected := r.signInAt(t, b, name, server)
			if redirected != row.Redirects {
				t.Errorf("sent to the provider: %v, want %v", redirected, row.Redirects)
			}
			if got := server.Count(idptest.AtToken); got != row.Tokens {
				t.Errorf("%d requests at the token endpoint, want %d", got, row.Tokens)
			}
			if got := server.Count(idptest.AtUserInfo); got > 0 && !row.UserInfo {
				t.Errorf("userinfo was asked %d times", got)
			}
			_, cookies := b.cookies(t, r.url(appHost, "/"))
			last := r.lastSignIn(t, name)
			if row.Reason == "" {
				if p.Status != http.StatusFound && p.Status != http.StatusSeeOther || cookies[cookieToken] == "" {
					t.Fatalf("the sign-in ends with %d\n%s", p.Status, p.Body)
				}
				if last.str("decision") != "allowed" {
					t.Errorf("the audit log has %v", last)
				}
				if got := b.do(t, call(t, "GET", r.url(appHost, "/records/x"), "")); got.Status != http.StatusOK && row.Module != "aggregated-claims" && row.Module != "distributed-claims" {
					t.Errorf("the session is answered %d", got.Status)
				}
				return
			}
			if p.Status < 400 || cookies[cookieToken] != "" || cookies[cookieContext] != "" {
				t.Errorf("the sign-in ends with %d and the cookies %v", p.Status, cookies)
			}
			if !strings.Contains(p.Body, "Reference number") {
				t.Errorf("the page says no reference number:\n%s", p.Body)
			}
			if last.str("decision") == "allowed" || last.str("reason") != row.Reason {
				t.Errorf("the audit log has decision %q, reason %q, want %q", last.str("decision"), last.str("reason"), row.Reason)
			}
			if last.str("ref") == "" || !strings.Contains(p.Body, last.str("ref")) {
				t.Errorf("the page's reference number is not %q of the audit log", last.str("ref"))
			}
		})
	}
}

// lastSignIn is the newest audit record of a sign-in by a source.
func (r *rig) lastSignIn(t testing.TB, source string) record {
	t.Helper()
	var last record
	for _, rec := range r.audit(t) {
		if rec.str("kind") == "sign-in" && rec.str("source") == source {
			last = rec
		}
	}
	return last
}

// TestMisbehavingClaims: what a provider says of a person goes into headers and cookies; what does not belong there refuses the
// sign-in instead of being cut or escaped.
func TestMisbehavingClaims(t *testing.T) {
	r, servers := newMisbehaving(t, 1)
	server := servers[0]
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("role-%d", i)
	}
	for id, fault := range map[string]idptest.Fault{
		"H22 CR LF in the name":     idptest.SetClaim("name", "Dana\r\nRemote-Groups: admin"),
		"H22 LF in the user name":   idptest.SetClaim("preferred_username", "dana\nadmin"),
		"H22 NUL in the e-mail":     idptest.SetClaim("email", "dana@x\x00.test"),
		"N16 empty subject":         idptest.SetClaim("sub", ""),
		"N16 number as subject":     idptest.SetClaim("sub", 5),
		"N16 long subject":          idptest.SetClaim("sub", strings.Repeat("s", 256)),
		"N16 LF in the subject":     idptest.SetClaim("sub", "dana\n"),
		"K13 name of 5000 letters":  idptest.SetClaim("name", strings.Repeat("n", 5000)),
		"user name is not a string": idptest.SetClaim("preferred_username", []string{"dana"}),
		"N8 no exp":                 idptest.DropClaims("exp"),
		"N7 expired":                idptest.SetClaim("exp", 1_000_000_000),
		"N9 another audience":       idptest.SetClaim("aud", []string{"anteroom", "other"}),
		"N14 another party":         idptest.SetClaim("azp", "other"),
		"N22 invalid_grant":         idptest.Status(idptest.AtToken, 400),
		"N31 userinfo is broken":    idptest.Status(idptest.AtUserInfo, 500),
	} {
		t.Run(id, func(t *testing.T) {
			faults := []idptest.Fault{fault}
			if strings.HasPrefix(id, "N31") {
				faults = append(faults, idptest.DropClaims("name", "email", "roles")) // so that userinfo is asked
			}
			server.Use(faults...)
			b := newBrowser(t)
			p, _ := r.signInAt(t, b, "s0", server)
			_, cookies := b.cookies(t, r.url(appHost, "/"))
			if p.Status < 400 || cookies[cookieToken] != "" {
				t.Errorf("the sign-in ends with %d and the cookies %v", p.Status, cookies)
			}
			if strings.Contains(strings.Join(p.Header["Set-Cookie"], "\n")+fmt.Sprint(p.Header), "Remote-Groups") {
				t.Errorf("a claim became a header: %v", p.Header)
			}
			if last := r.lastSignIn(t, "s0"); last.str("decision") == "allowed" || last.str("reason") == "" {
				t.Errorf("the audit log has %v", last)
			}
		})
	}
	t.Run("roles that no line names are no roles", func(t *testing.T) {
		server.Use(idptest.SetClaim("roles", append([]string{"admin", "doctor ", "DOCTOR"}, many[:50]...)))
		b := newBrowser(t)
		if p, _ := r.signInAt(t, b, "s0", server); p.Status >= 400 {
			t.Fatalf("the sign-in ends with %d\n%s", p.Status, p.Body)
		}
		for _, target := range []string{"/admin/x", "/records/x"} {
			if p := b.do(t, call(t, "GET", r.url(appHost, target), "")); p.Status != http.StatusForbidden {
				t.Errorf("%s is answered %d", target, p.Status)
			}
		}
	})
	t.Run("C28 keys change between two sign-ins", func(t *testing.T) {
		server.Use()
		for range 2 {
			b := newBrowser(t)
			if p, _ := r.signInAt(t, b, "s0", server); p.Status >= 400 {
				t.Fatalf("the sign-in ends with %d\n%s", p.Status, p.Body)
			}
			server.Rotate()
		}
	})
}
