package integration

import (
	"fmt"
	"strings"
	"testing"
)

// Table 4.1: request targets that two programs could read in two ways. Whoever gets one through reads, at the application, a
// path that the policy never judged: stock Caddy judges a cleaned copy and forwards the original.
func TestPathAttacks(t *testing.T) {
	r := newRig(t, standard)
	people := []*session{nil, r.person(t, appHost, "dana"), r.person(t, appHost, "admin")}

	ambiguous := map[string][]string{
		"P1": {"//admin/x", "/public//admin", "///admin", "//"},
		"P2": {"/./admin", "/public/./../admin", "/public/../admin", "/public/..", "/public/.", "/..", "/public/a/../../admin"},
		"P3": {"/public/%2e%2e/admin", "/public/%2E%2E/admin", "/public/.%2e/admin", "/public/%2e./admin", "/public/%2e/x"},
		"P4": {"/public/..%2fadmin", "/public/..%2Fadmin", "/public%2fadmin", "/admin%2f", "/public/..%5cadmin", `/public/..\admin`,
			"/public%5Cadmin", `/public\x`},
		"P6":  {"/public/..;/admin", "/admin;x=1", "/;/admin", "/public;/../admin", "/public/x;jsessionid=1", "/public/.;/../admin"},
		"P8":  {"/admin%00", "/admin%0a", "/admin%0d%0a", "/admin%09", "/admin%7f", "/admin/.", "/admin/%2e", "/public/%01"},
		"P9":  {"/public/%c0%ae%c0%ae/admin", "/public/%c0%af", "/public/%e0%80%af", "/public/%u002e", "/public/%ed%a0%80"},
		"P11": {"/admin#x", "/public/#/../admin", "/public/x#"},
		"P12": {"/public/%", "/public/%4", "/%", "/public/%2"},
		"P19": {"/admin/x;.css", "/admin/%2f.css", "/admin/..%2fx.css"},
		"double encoding": {"/public/%252e%252e/admin", "/public/..%252fadmin", "/public/%255cadmin", "/public/%25",
			"/public/%2525252e"},
	}
	for id, targets := range ambiguous {
		for _, target := range targets {
			for _, who := range people {
				t.Run(fmt.Sprintf("%s %s as %s", id, target, name(who)), func(t *testing.T) {
					_, got := r.attack(t, row{id: id, payload: r.ask(target, who), who: who, want: []int{400}})
					if len(got) > 0 {
						t.Errorf("forwarded: %q", got[0].Head)
					}
				})
			}
		}
	}
}

// ask is a simple request of a person for a target; the connection ends with it.
func (r *rig) ask(target string, who *session, extra ...string) string {
	if line := who.line(); line != "" {
		extra = append(extra, line)
	}
	return get(target, r.authority(appHost), append(extra, "Connection: close")...)
}

// Paths that are clear but not what a rule names: near misses are denied, not guessed at.
func TestPathNearMisses(t *testing.T) {
	r := newRig(t, standard)
	dana, admin := r.person(t, appHost, "dana"), r.person(t, appHost, "admin")
	denied := map[string][]string{
		"P7":                {"/ADMIN", "/Admin/x", "/PUBLIC/x", "/%61dmin", "/%70ublic/x", "/admi%6e/x"},
		"P8":                {"/admin%20", "/admin.", "/admin%2ejson"},
		"P11":               {"/admin%23x", "/admin%3fx"},
		"P17":               {"/public../admin", "/publicx", "/admin-old", "/adminx", "/members.old/x"},
		"P19":               {"/admin.json", "/admin.css"},
		"encoded semicolon": {"/admin%3bx=1", "/public%3b/x"},
	}
	for id, targets := range denied {
		for _, target := range targets {
			for _, who := range []*session{nil, dana, admin} {
				t.Run(fmt.Sprintf("%s %s as %s", id, target, name(who)), func(t *testing.T) {
					want := []int{403, 400}
					if who == nil {
						want = []int{401, 400}
					}
					r.attack(t, row{id: id, payload: r.ask(target, who), who: who, want: want})
				})
			}
		}
	}
	// P19: the same decision with a slash, an extension or a query behind.
	for _, target := range []string{"/admin", "/admin/", "/admin/x.css", "/admin?", "/admin?/../../public", "/admin/x?y=/public/"} {
		for who, want := range map[*session]int{nil: 401, dana: 403, admin: 200} {
			t.Run("P19 "+target+" as "+name(who), func(t *testing.T) {
				a := row{id: "P19", payload: r.ask(target, who), who: who, want: []int{want}}
				if want == 200 {
					a.targets = []string{target}
				}
				r.attack(t, a)
			})
		}
	}
}

// Clear paths arrive as they were sent, to the byte, with their query.
func TestPathUnchanged(t *testing.T) {
	r := newRig(t, standard)
	admin := r.person(t, appHost, "admin")
	for _, target := range []string{
		"/", "/?", "/?x=1", "/public", "/public/", "/public/a%20b", "/public/%C3%A9", "/public/%c3%a9", "/public/@me", "/public/~x",
		"/public/a+b", "/public/%41", "/public/a.b..c", "/public/.well-known", "/public/x?a=b&c=//d/../e%2f;x#",
		"/public/!$&'()*,=", "/public/%E2%80%AE", "/public/x?%zz", "/public/x?\"<>", "/public/" + strings.Repeat("a", 4000),
		"/public/x?next=https://evil.example/%00", "/public?/../admin", "/public/%5B", "/public/x??y",
	} {
		for _, who := range []*session{nil, admin} {
			t.Run(fmt.Sprintf("%.60s as %s", target, name(who)), func(t *testing.T) {
				a := row{payload: r.ask(target, who), targets: []string{target}, who: who, want: []int{200, 400}}
				e, got := r.attack(t, a)
				if e.status() == 200 && (len(got) != 1 || got[0].Target != target) {
					t.Errorf("sent %q, the backend received %v", target, heads(got))
				}
				if e.status() != 200 && !strings.ContainsAny(target, "[#\"<>%") {
					t.Errorf("a clear path was refused with %d: %s", e.status(), e.Raw)
				}
			})
		}
	}
}

// Request targets that are not paths.
func TestTargetForms(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	rows := []row{
		{id: "P13 no leading slash", payload: get("admin", own, dana.line()), want: []int{400}},
		{id: "P13 GET asterisk", payload: get("*", own, dana.line()), want: []int{400, 405}},
		{id: "P13 OPTIONS asterisk", payload: request("OPTIONS", "*", own, "", dana.line()), want: []int{200, 400, 405}},
		{id: "P14 foreign authority", payload: get("http://evil.example/members/x", own, dana.line()), want: []int{400, 421}},
		{id: "P14 foreign authority, https", payload: get("https://evil.example/members/x", own, dana.line()), want: []int{400, 421}},
		{id: "P14 own authority, foreign Host", payload: get("https://"+own+"/members/x", "evil.example", dana.line()), want: []int{400, 421}},
		{id: "P14 own authority twice", payload: get("https://"+own+"/members/x", own, dana.line()), targets: []string{"/members/x"}, want: []int{200, 400, 421}},
		{id: "P14 userinfo", payload: get("https://"+own+"@evil.example/members/x", own, dana.line()), want: []int{400, 421}},
		{id: "P14 other scheme", payload: get("file:///etc/passwd", own, dana.line()), want: []int{400, 421}},
		{id: "P16 CONNECT authority", payload: request("CONNECT", own, own, "", dana.line()), want: []int{400, 405}},
		{id: "P16 CONNECT path", payload: request("CONNECT", "/members/x", own, "", dana.line()), want: []int{400, 405}},
		{id: "P16 CONNECT foreign", payload: request("CONNECT", "evil.example:443", own, "", dana.line()), want: []int{400, 405, 421}},
	}
	for _, a := range rows {
		t.Run(a.id, func(t *testing.T) {
			a.who = dana
			r.attack(t, a)
		})
	}
}
