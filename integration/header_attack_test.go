package integration

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// Table 4.3: whoever gets an identity header through is, to the application, whoever he says.
func TestIdentityHeaderAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana, ada := r.person(t, appHost, "dana"), r.person(t, appHost, "admin")
	people := []*session{nil, dana, ada} // ada has no email: a claim that is missing must not leave the client's value (I2)

	spellings := map[string]func(string) string{
		"I1 as is":       func(s string) string { return s },
		"I3 lower case":  strings.ToLower,
		"I3 upper case":  strings.ToUpper,
		"I4 underscores": func(s string) string { return strings.ReplaceAll(s, "-", "_") },
		"I4 dots":        func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", ".") },
		"I4 mixed":       func(s string) string { return strings.Replace(strings.ToUpper(s), "-", "_", 1) },
	}
	for id, spell := range spellings {
		for _, header := range identityHeaders {
			for _, who := range people {
				target := "/public/x"
				if who != nil {
					target = "/members/x"
				}
				t.Run(fmt.Sprintf("%s %s as %s", id, spell(header), name(who)), func(t *testing.T) {
					r.attack(t, row{payload: r.ask(target, who, spell(header)+": eve", spell(header)+": admin"), targets: []string{target}, who: who,
						want: []int{200, 400}})
				})
			}
		}
	}
	for _, who := range people {
		t.Run("I1 public page as "+name(who), func(t *testing.T) {
			r.attack(t, row{payload: r.ask("/public/x", who, "Remote-User: eve", "X-Auth-User: eve"), targets: []string{"/public/x"}, who: who, want: []int{200}})
		})
	}
	t.Run("the family by prefix", func(t *testing.T) {
		extra := []string{"Remote-Anything: eve", "X-Auth-Anything: eve", "X-WEBAUTH-ANYTHING: eve", "X-SSL-Client-Anything: eve", "Anteroom-Anything: eve"}
		_, got := r.attack(t, row{payload: r.ask("/members/x", dana, extra...), targets: []string{"/members/x"}, who: dana, want: []int{200}})
		for _, received := range got {
			if strings.Contains(received.Head, "eve") {
				t.Errorf("a spoofed header arrived:\n%s", received.Head)
			}
		}
	})
	t.Run("I13 a name beyond ASCII", func(t *testing.T) {
		zoe := r.person(t, appHost, "zoe")
		r.attack(t, row{payload: r.ask("/members/x", zoe), targets: []string{"/members/x"}, who: zoe, want: []int{200}})
	})
	t.Run("Authorization belongs to the application", func(t *testing.T) {
		_, got := r.attack(t, row{payload: r.ask("/members/x", dana, "Authorization: Basic eDp5"), targets: []string{"/members/x"}, who: dana, want: []int{200}})
		for _, received := range got {
			if v := received.values("Authorization"); len(v) != 1 || v[0] != "Basic eDp5" {
				t.Errorf("Authorization is %q at the application", v)
			}
		}
	})
}

// I7: trailers that a backend merges into its headers.
func TestTrailerAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	for id, extra := range map[string][]string{
		"declared":   {"Trailer: Remote-User, X-Auth-User", "TE: trailers", "Connection: TE"},
		"undeclared": nil,
		"lower case": {"trailer: remote-user"},
	} {
		for _, who := range []*session{nil, dana} {
			t.Run("I7 "+id+" as "+name(who), func(t *testing.T) {
				if line := who.line(); line != "" {
					extra = append(extra[:len(extra):len(extra)], line)
				}
				payload := request("POST", "/public/x", own, "3\r\nabc\r\n0\r\nRemote-User: eve\r\nX-Auth-User: eve\r\nX-Other: kept?\r\n\r\n",
					append([]string{"Transfer-Encoding: chunked"}, extra...)...)
				_, got := r.attack(t, row{payload: payload, targets: []string{"/public/x"}, who: who, want: []int{200, 400}})
				for _, received := range got {
					if len(received.Trailers) > 0 || len(received.values("Trailer")) > 0 {
						t.Errorf("trailers reached the backend: %v\n%s", received.Trailers, received.Head)
					}
				}
			})
		}
	}
}

// I8, I9: hop-by-hop nominations make a proxy delete what we have set.
func TestConnectionHeaderAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	for _, extra := range [][]string{
		{"Connection: Remote-User"}, {"Connection: remote-user, close"}, {"Connection: close, Remote-Groups, Remote-Name"},
		{"Connection: Remote-User", "Connection: keep-alive"}, {"CONNECTION: REMOTE-USER"}, {"Connection: X-Forwarded-For"},
		{"Connection: Cookie"}, {"Connection: Host"}, {"Connection: Content-Length"}, {"Proxy-Connection: Remote-User"},
		{"Keep-Alive: timeout=5, Remote-User"}, {"TE: trailers, Remote-User"}, {"Connection: ,,Remote-User ,\tRemote-Email"},
		{"Connection: upgrade, Remote-User", "Upgrade: websocket"},
	} {
		t.Run("I8 "+strings.Join(extra, " "), func(t *testing.T) {
			_, got := r.attack(t, row{payload: get("/members/x", own, append(extra, dana.line(), "X-Own: kept")...),
				targets: []string{"/members/x"}, who: dana, want: []int{200, 400, 403}})
			for _, received := range got {
				if len(received.values("X-Own")) != 1 {
					t.Errorf("another header was lost:\n%s", received.Head)
				}
				if len(received.values("X-Forwarded-For")) != 1 {
					t.Errorf("X-Forwarded-For was removed by the client:\n%s", received.Head)
				}
			}
		})
	}
}

// I16: the application's answer must not set our cookies or say who somebody is.
func TestResponseHeaderAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	r.dump.respond(t, func(_ *received, conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"+
			"Set-Cookie: __Host-anteroom=evil; Path=/; Secure\r\nset-cookie: __Host-anteroom-ctx=evil; Path=/; Secure\r\n"+
			"Set-Cookie:   __HOST-ANTEROOM=evil; Path=/; Secure\r\nSet-Cookie: __Host-anteroom-anything=evil; Path=/; Secure\r\n"+
			"Set-Cookie: app=kept; Path=/\r\nSet-Cookie: other=kept; Path=/\r\n\r\nok")
	})
	for _, who := range []*session{nil, dana} {
		t.Run("I16 K12 as "+name(who), func(t *testing.T) {
			e, _ := r.attack(t, row{payload: r.ask("/public/x", who), targets: []string{"/public/x"}, who: who, want: []int{200}})
			if len(e.Answers) != 1 {
				t.Fatal("no answer")
			}
			cookies := e.Answers[0].Header.Values("Set-Cookie")
			kept := 0
			for _, line := range cookies {
				if strings.Contains(line, "evil") {
					t.Errorf("the application set %q", line)
				}
				if strings.Contains(line, "=kept") {
					kept++
				}
			}
			if kept != 2 {
				t.Errorf("the application's own cookies are %q", cookies)
			}
		})
	}
}
