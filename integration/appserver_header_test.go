package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestHeadersReachNoApp: WSGI, CGI and servlets fold names of headers; whoever finds a spelling that we keep and they fold is, to the
// application, whoever he says.
func TestHeadersReachNoApp(t *testing.T) {
	t.Parallel() // work for a processor, beside the tests that wait
	spellings := map[string]func(string) string{
		"I1 as is":                      func(s string) string { return s },
		"I3 upper case":                 strings.ToUpper,
		"CVE-2026-52845 underscores":    func(s string) string { return strings.ReplaceAll(s, "-", "_") },
		"GHSA-49wc dots":                func(s string) string { return strings.ReplaceAll(s, "-", ".") },
		"I4 mixed":                      func(s string) string { return strings.Replace(strings.ToLower(s), "-", "_", 1) },
		"I4 an underscore in the name":  func(s string) string { return strings.Replace(s, "-", "_-", 1) },
		"I6 blank before the colon":     func(s string) string { return s + " " },
		"I6 tab before the colon":       func(s string) string { return s + "\t" },
		"I6 blank in the name":          func(s string) string { return strings.Replace(s, "-", " ", 1) },
		"I6 folded line":                func(s string) string { return "X-Own: kept\r\n " + s },
		"I11 httpoxy":                   func(string) string { return "Proxy" },
		"CVE-2025-64484 and the prefix": func(s string) string { return "HTTP_" + strings.ReplaceAll(strings.ToUpper(s), "-", "_") },
	}
	headers := []string{"Remote-User", "X-Forwarded-User", "X-WEBAUTH-USER", "X-Token-User-Email", "Anteroom-Assertion"}
	// The front of the application may have a word for itself; what counts is what came from the client.
	variable := regexp.MustCompile(`(?m)^([A-Z_]*(?:REMOTE|AUTH_|FORWARDED_USER|TOKEN|ASSERTION|PROXY)[A-Z_.]*): (.*eve.*)$`)
	for kind, startApp := range appServers {
		t.Run(kind, func(t *testing.T) {
			app := startApp(t)
			r := newRig(t, standard, "DUMP", app.addr)
			pat := r.person(t, appHost, "pat")
			for id, spell := range spellings {
				for _, header := range headers {
					for who, target := range map[*session]string{nil: "/public/x", pat: "/members/x"} {
						t.Run(fmt.Sprintf("%s %q as %s", id, spell(header), name(who)), func(t *testing.T) {
							e := send(t, r.addr(), appHost, r.ask(target, who, spell(header)+": eve", spell(header)+": eve,admin"), 1)
							if status := e.status(); status != 200 && (status != 400 || !strings.HasPrefix(id, "I6") && !strings.HasPrefix(id, "I11")) {
								t.Errorf("answered %d", status)
							}
							if found := variable.FindString(e.Raw); found != "" {
								t.Errorf("the application saw %q", found)
							}
							for _, h := range app.hits(t) {
								if who == nil && h.person != "" || who != nil && h.person != who.user {
									t.Errorf("the application takes %s for %q", name(who), h.person)
								}
							}
						})
					}
				}
			}
		})
	}
}

// TestMatrixParameters: a servlet container drops them before it routes.
func TestMatrixParameters(t *testing.T) {
	app := startTomcat(t)
	r := newRig(t, strings.Replace(standard, "allow role patient GET /patients/{user}/*", "deny public /public/secret/**", 1)+strings.NewReplacer("$HOST", thirdHost, "$SWITCH", "paths allow semicolon").Replace(readersSite), "DUMP", app.addr, "APP", app.addr)
	pat := r.person(t, thirdHost, "pat")
	for _, target := range []string{"/admin;x=y/x", "/public/..;/admin/x", "/public;x/secret/x", "/public/secret;x=y/x", "/;x/admin/x", "/public/;x=y/../admin/x", "/public/x;/../../admin/x", "/public/.;/secret/x", "/public/secret;", "/admin;", "/admin/x;.css", "/members;/x",
		"/patients/pat;x=y/1", "/patients/bob;/1", "/patients;x/bob/1", "/public;.css/secret/x", "/public/x;/secret/x;y"} {
		t.Run("CVE-2026-73511 CVE-2026-73553 P6 "+target, func(t *testing.T) {
			for host, who := range map[string]*session{appHost: nil, thirdHost: nil, thirdHost + " ": pat} {
				host = strings.TrimSpace(host)
				e := send(t, r.addr(), host, r.at(host, "GET", target, who), 1)
				for _, h := range app.hits(t) {
					p := &probe{target: target, who: who, status: e.status()}
					for _, problem := range reached(p, h, r.authority(host), false) {
						t.Errorf("%s at %s: %s", name(who), host, problem)
					}
					if host == appHost {
						t.Errorf("a semicolon went on: %+v", h)
					}
				}
				if host == appHost && e.status() != 400 {
					t.Errorf("answered %d at %s", e.status(), host)
				}
			}
		})
	}
	t.Run("P6 what is open in each reading", func(t *testing.T) {
		for _, target := range []string{"/public/x;a=b", "/public/x;a=b/y", "/public/;jsessionid=1"} {
			if e := send(t, r.addr(), thirdHost, r.at(thirdHost, "GET", target, nil), 1); e.status() != 200 || len(app.hits(t)) != 1 {
				t.Errorf("%s: answered %d", target, e.status())
			}
		}
	})
}
