package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/upstreams/idp"
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
%[4]s		}
`

// linesFor are the lines that a row needs besides.
func linesFor(row idptest.Row) (lines string) {
	for line, needed := range map[string]bool{
		"max_age 5m": row.Asks.MaxAge, "response_mode form_post": row.Asks.FormPost, "userinfo signed": row.Asks.SignedUserInfo, "prompt login": row.Asks.Again,
	} {
		if needed {
			lines += "\t\t\t" + line + "\n"
		}
	}
	return lines
}

// newMisbehaving starts bin/anteroom with one source, at a server of its own, for each row. The names are s0, s1 …
func newMisbehaving(t testing.TB, rows ...idptest.Row) (*rig, []*idptest.Server) {
	t.Helper()
	r := prepare(t, "")
	var blocks strings.Builder
	var all []*idptest.Server
	for i, row := range rows {
		name := fmt.Sprintf("s%d", i)
		server := idptest.Start(t, func(c *idp.Config) {
			c.Clients[0].RedirectURIs = []string{r.url(appHost, "/.anteroom/callback/"+name)}
			if row.Client != nil {
				row.Client(&c.Clients[0])
			}
		})
		fmt.Fprintf(&blocks, badSource, name, server.URL, server.ClientID, linesFor(row))
		write(t, r.dir+"/"+name+".secret", server.ClientSecret)
		all = append(all, server)
	}
	r.configure(t, strings.Replace(standard, hospital, hospital+blocks.String(), 1))
	r.run(t)
	return r, all
}

// signInAt goes the whole way with a browser. It returns the last page of ours and whether the provider was asked for a sign-in.
func (r *rig) signInAt(t testing.TB, b *browser, name string, server *idptest.Server, posted bool) (p page, redirected bool) {
	t.Helper()
	p = b.do(t, navigation(t, "GET", r.url(appHost, "/.anteroom/login/"+name+"?return_to=/members/x"), ""))
	location := p.Header.Get("Location")
	if !strings.HasPrefix(location, server.URL) {
		return p, false
	}
	if !posted {
		callback := server.SignIn(t, location, "doctor", "doctor")
		return b.do(t, navigation(t, "GET", callback.String(), "")), true
	}
	to, form := idptest.NewBrowser().SignInPosted(t, location, "doctor", "doctor")
	request := navigation(t, "POST", to.String(), form.Encode())
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", server.URL)
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	if p = b.do(t, request); p.Status != http.StatusSeeOther {
		return p, true
	}
	next, err := to.Parse(p.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return b.do(t, navigation(t, "GET", next.String(), "")), true
}

// sooner are the reasons with which the portal refuses what the relying party would refuse: it reads the response first.
var sooner = map[string][]string{
	"callback.state": {"attempt.missing", "callback.query"}, "callback.duplicate": {"callback.query"},
	"callback.code_and_error": {"callback.query"}, "callback.token": {"callback.query"},
}

// TestMisbehavingProvider runs the modules of the OpenID conformance suite through the binary. The table with every detail is
// that of identity/oidc; here it must hold for what a browser gets, for the audit log and for the requests that are made.
func TestMisbehavingProvider(t *testing.T) {
	rows := idptest.Rows()
	if len(rows) < 20 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	r, servers := newMisbehaving(t, rows...)
	for i, row := range rows {
		t.Run(row.ID+" "+row.Module, func(t *testing.T) {
			server, name := servers[i], fmt.Sprintf("s%d", i)
			if row.Before {
				if p, _ := r.signInAt(t, newBrowser(t), name, server, row.Asks.FormPost); p.Status != http.StatusSeeOther {
					t.Fatalf("the sign-in before ends with %d", p.Status)
				}
			}
			if row.Rotated {
				server.Rotate()
			}
			server.Forget()
			server.Use(row.Faults...)
			b := newBrowser(t)
			p, redirected := r.signInAt(t, b, name, server, row.Asks.FormPost)
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
				t.Errorf("the sign-in ends with %d and %d cookies", p.Status, len(cookies))
			}
			if !strings.Contains(p.Body, "Reference number") {
				t.Errorf("the page says no reference number:\n%s", p.Body)
			}
			if got := last.str("reason"); last.str("decision") == "allowed" || got != row.Reason && !slices.Contains(sooner[row.Reason], got) {
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
	r, servers := newMisbehaving(t, idptest.Row{})
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
			p, _ := r.signInAt(t, b, "s0", server, false)
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
		if p, _ := r.signInAt(t, b, "s0", server, false); p.Status >= 400 {
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
			if p, _ := r.signInAt(t, b, "s0", server, false); p.Status >= 400 {
				t.Fatalf("the sign-in ends with %d\n%s", p.Status, p.Body)
			}
			server.Rotate()
		}
	})
}
