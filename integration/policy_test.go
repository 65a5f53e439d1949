package integration

import (
	"net"
	"strings"
	"testing"
	"time"
)

// P7: what is taken away by a deny line is not reached in another spelling.
func TestDenyIsNotDodged(t *testing.T) {
	r := newRig(t, standard)
	dana, pat := r.person(t, wideHost, "dana"), r.person(t, wideHost, "pat")
	for _, target := range []string{"/secret", "/secret/", "/secret/x", "/SECRET/x", "/Secret", "/%73ecret/x", "/%53ECRET/x", "/secre%74", "/secret?x", "/secret/%41"} {
		for who, want := range map[*session]int{nil: 401, dana: 403, pat: 200} {
			t.Run(target+" as "+name(who), func(t *testing.T) {
				a := row{payload: wide(r, target, who), host: wideHost, who: who, want: []int{want}}
				if want == 200 {
					a.targets = []string{target}
				}
				r.attack(t, a)
			})
		}
	}
	for _, target := range []string{"/", "/secrets", "/x/secret", "/public"} {
		t.Run("not denied "+target, func(t *testing.T) {
			r.attack(t, row{payload: wide(r, target, dana), targets: []string{target}, host: wideHost, who: dana, want: []int{200}})
		})
	}
}

func wide(r *rig, target string, who *session) string {
	extra := []string{"Connection: close"}
	if who != nil {
		extra = append(extra, who.line())
	}
	return get(target, r.authority(wideHost), extra...)
}

// A pattern with {user} is the person's own and nobody else's, in any spelling of the name.
func TestOwnPathOnly(t *testing.T) {
	r := newRig(t, standard)
	pat := r.person(t, appHost, "pat")
	for target, want := range map[string]int{
		"/patients/pat/1": 200, "/patients/%70at/1": 200, "/patients/PAT/1": 403, "/patients/dana/1": 403, "/patients/pat": 403, "/patients/pat/": 403,
		"/patients/pat/1/2": 403, "/patients/pa/1": 403, "/patients/pat%20/1": 400, "/patients/{user}/1": 400, "/patients/*/1": 403,
	} {
		t.Run(target, func(t *testing.T) {
			e := send(t, r.addr(), appHost, r.ask(target, pat), 1)
			if e.status() != want && !(want == 400 && e.status() == 403) {
				t.Errorf("answered %d, want %d", e.status(), want)
			}
			for _, received := range r.dump.take() {
				if want != 200 || received.Target != target {
					t.Errorf("forwarded: %s", received.Head)
				}
			}
		})
	}
}

// A renewed cookie is never put into an answer that a shared cache may keep, and keeps others out of it.
func TestRenewalAndCaches(t *testing.T) {
	t.Parallel() // seven seconds of waiting
	r := newRig(t, strings.Replace(standard, "anteroom {", "anteroom {\n\t\tsession {\n\t\t\tidle 1m\n\t\t\tabsolute 10m\n\t\t}", 1))
	r.dump.respond(t, func(received *received, conn net.Conn) {
		value := strings.TrimPrefix(received.path(), "/members/")
		header := "X-Plain: yes"
		if value != "none" {
			header = "Cache-Control: " + strings.ReplaceAll(value, "_", ", ")
		}
		reply(conn, "200 OK", header, "ok")
	})
	dana := r.person(t, appHost, "dana")
	time.Sleep(6500 * time.Millisecond)
	for value, renewed := range map[string]bool{"none": true, "no-store": true, "private": true, "max-age=60": true,
		"public": false, "public_max-age=60": false, "max-age=60_immutable": false, "PUBLIC": false} {
		t.Run(value, func(t *testing.T) {
			e, _ := r.attack(t, row{payload: r.ask("/members/"+value, dana), targets: []string{"/members/" + value}, who: dana, want: []int{200}})
			if len(e.Answers) != 1 {
				t.Fatal("no answer")
			}
			header := e.Answers[0].Header
			if got := strings.Contains(strings.Join(header.Values("Set-Cookie"), " "), cookieToken+"="); got != renewed {
				t.Errorf("Cache-Control %q: renewed %v, want %v: %v", value, got, renewed, header)
			}
			if cache := strings.ToLower(strings.Join(header.Values("Cache-Control"), ", ")); renewed && !strings.Contains(cache, "private") && !strings.Contains(cache, "no-store") {
				t.Errorf("an answer with a cookie in it has Cache-Control %q", cache)
			}
		})
	}
}
