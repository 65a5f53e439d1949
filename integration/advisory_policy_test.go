package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fiveSystems are the applications of one hospital, each with its roles (row 168).
var fiveSystems = []struct {
	host  string
	roles []string
}{
	{appHost, []string{"patient"}}, {wideHost, []string{"finance"}}, {thirdHost, []string{"doctor"}}, {"orthanc.test", []string{"doctor"}}, {authHost, []string{"doctor", "external"}},
}

// Table 1.M, row by row: what a policy at the proxy has to do, whatever it says.
func TestPolicyRows(t *testing.T) {
	config := "{" + globals + "\tanteroom {" + hospital + "\t}\n}\n"
	for _, system := range fiveSystems {
		config += fmt.Sprintf("%s:$PORT {\n\ttls $CERT $KEY\n\tanteroom {\n\t\tallow role %s\n\t}\n\treverse_proxy $DUMP\n}\n", system.host, strings.Join(system.roles, ","))
	}
	r := newRig(t, config)
	people := map[string]string{"pat": "patient", "finn": "finance", "dana": "doctor", "ext": "external", "nobody": ""}
	for _, system := range fiveSystems {
		sessions := map[string]*session{"": nil}
		for user := range people {
			sessions[user] = r.person(t, system.host, user)
		}
		for user, who := range sessions {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				t.Run("168 "+system.host+" "+method+" as "+name(who), func(t *testing.T) {
					want := 403
					switch {
					case who == nil:
						want = 401
					case slices.Contains(system.roles, people[user]) && people[user] != "":
						want = 200
					}
					payload := r.at(system.host, method, "/records/7", who, "Origin: https://"+r.authority(system.host), "Content-Length: 0")
					r.dump.take()
					e := send(t, r.addr(), system.host, payload, 1)
					if got := r.dump.take(); e.status() != want || len(got) != want/200%2 {
						t.Errorf("answered %d, want %d; %d arrived", e.status(), want, len(got))
					}
				})
			}
		}
	}
}

// Table 1.M on the standard configuration.
func TestPolicyOfEveryRequest(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	for _, target := range []string{"/nothing", "/new/app", "/favicon.ico", "/robots.txt", "/publi", "/public-x", "/api", "/%7E", "/index.html", "/records.old"} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST"} {
			t.Run("167 "+method+" "+target, func(t *testing.T) {
				r.refusedAt(t, appHost, r.at(appHost, method, target, nil, "Content-Length: 0"), nil, 401, 403)
				r.refusedAt(t, appHost, r.at(appHost, method, target, dana, "Content-Length: 0"), dana, 403)
			})
		}
	}
	// 170: on every route, in every spelling, once and twice and as a trailer.
	for _, target := range []string{"/", "/public/x", "/members/x", "/records/7"} {
		for _, header := range identityHeaders {
			t.Run("170 "+target+" "+header, func(t *testing.T) {
				var extra []string
				for _, spelled := range []string{header, strings.ToLower(header), strings.ToUpper(header), strings.ReplaceAll(header, "-", "_"), strings.ReplaceAll(header, "-", "."), strings.Replace(header, "-", "_", 1)} {
					extra = append(extra, spelled+": eve")
				}
				r.attack(t, row{payload: r.at(appHost, "GET", target, dana, extra...), targets: []string{target}, who: dana, want: []int{200}})
				body := "3\r\nabc\r\n0\r\n" + header + ": eve\r\n\r\n"
				payload := request("POST", target, r.authority(appHost), body, dana.line(), "Transfer-Encoding: chunked", "Trailer: "+header, "Connection: close")
				r.attack(t, row{payload: payload, targets: []string{target}, who: dana, want: []int{200, 400, 403}})
			})
		}
	}
	for _, method := range []string{"TRACE", "TRACK", "DEBUG", "CONNECT", "get", "Post", "PROPFIND", "FOO", "LINK", "PURGE", "SEARCH", "BREW", strings.Repeat("M", 1000), "GET,POST", "G\xcbT"} {
		for _, target := range []string{"/public/x", "/members/x", "/admin/x", "/.anteroom/"} {
			t.Run(fmt.Sprintf("171 M2 %.20q %s", method, target), func(t *testing.T) {
				r.refusedAt(t, appHost, r.at(appHost, method, target, dana, "X-Canary: canary"), dana, 400, 405, 501)
				r.refusedAt(t, appHost, r.at(appHost, method, target, nil), nil, 400, 405, 501)
			})
		}
	}
	for _, target := range []string{"//admin", "/public/../admin", "/public/%2e%2e/admin", "/public/..%2fadmin", "/public/..;/admin", "/admin%00", "/%c0%af", "/a#b", "/%zz", "/public/%252e%252e/admin", "/admin.", "/admin%20/x"} {
		t.Run("172 "+target, func(t *testing.T) {
			r.refusedAt(t, appHost, r.ask(target, dana), dana, 400)
			r.refusedAt(t, appHost, r.ask(target, nil), nil, 400)
		})
	}
	for _, page := range []string{"/.anteroom/", "/.anteroom/login", "/.anteroom/nothing", "/admin/x", "/public/../x", "/.anteroom/callback/hospital?code=x&state=y"} {
		t.Run("173 "+page, func(t *testing.T) {
			for _, who := range []*session{nil, dana} {
				e, _ := r.attack(t, row{payload: r.ask(page, who, "Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"), want: []int{200, 302, 303, 400, 401, 403, 404}})
				if len(e.Answers) != 1 {
					t.Fatal("no answer")
				}
				h := e.Answers[0].Header
				if !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
					continue
				}
				csp := h.Get("Content-Security-Policy")
				for _, want := range []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} {
					if !strings.Contains(csp, want) {
						t.Errorf("%s as %s: Content-Security-Policy %q lacks %s", page, name(who), csp, want)
					}
				}
				if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" || !strings.Contains(h.Get("Cache-Control"), "no-store") || strings.Contains(e.Answers[0].Body, "<script") {
					t.Errorf("%s as %s: %v", page, name(who), h)
				}
			}
		})
	}
	t.Run("I14", func(t *testing.T) { backendAlone(t, r, dana) })
}

// backendAlone, I14: an application that checks the assertion believes nobody who comes past us: not without one, not with one that
// is for another site, not with one that is signed by another key.
func backendAlone(t *testing.T, r *rig, dana *session) {
	m := &crossing{rig: r}
	_, got := r.attack(t, row{payload: r.ask("/members/x", dana), targets: []string{"/members/x"}, who: dana, want: []int{200}})
	if len(got) != 1 || len(got[0].values("Anteroom-Assertion")) != 1 {
		t.Fatal("no assertion arrived")
	}
	ours := got[0].values("Anteroom-Assertion")[0]
	if err := m.verifyAssertion(t, ours); err != nil {
		t.Fatalf("our own assertion: %v", err)
	}
	parts := strings.Split(ours, ".")
	stranger := newRig(t, standard)
	_, theirs := stranger.attack(t, row{payload: stranger.ask("/members/x", stranger.person(t, appHost, "dana")), targets: []string{"/members/x"}, who: &session{user: "dana"}, want: []int{200}})
	_, other := r.attack(t, row{payload: r.at(wideHost, "GET", "/members/x", r.person(t, wideHost, "dana")), host: wideHost, targets: []string{"/members/x"}, who: &session{user: "dana"}, want: []int{200}})
	for id, text := range map[string]string{
		"none": "", "unsigned": "eyJhbGciOiJub25lIiwidHlwIjoiYW50ZXJvb20tYXNzZXJ0aW9uK2p3dCJ9." + parts[1] + ".", "another claim": parts[0] + ".eyJzdWIiOiJyb290In0." + parts[2],
		"another key": strings.Join(theirs[0].values("Anteroom-Assertion"), ""), "another site": strings.Join(other[0].values("Anteroom-Assertion"), ""), "a session": dana.token,
	} {
		if err := m.verifyAssertion(t, text); err == nil {
			t.Errorf("%s: an application that checks believes it", id)
		}
	}
}
