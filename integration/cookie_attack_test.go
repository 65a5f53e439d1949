package integration

import (
	"encoding/json"
	"strings"
	"testing"
)

// Tables 4.5 and 4.6 at the running binary. "No session" is one answer: 401 for a program, 302 to sign-in for a page.

// Two halves: neither cookie is worth anything alone, nor with the other half of somebody else.
func TestTwoHalves(t *testing.T) {
	r := newRig(t, standard)
	dana, ada := r.person(t, appHost, "dana"), r.person(t, appHost, "admin")
	elsewhere := r.person(t, wideHost, "dana")
	tok, ctx := func(v string) string { return cookieToken + "=" + v }, func(v string) string { return cookieContext + "=" + v }
	none := map[string][]string{
		"S8 token alone":                 {tok(dana.token)},
		"context alone":                  {ctx(dana.context)},
		"halves of two sessions":         {tok(dana.token), ctx(ada.context)},
		"halves of two sessions, turned": {tok(ada.token), ctx(dana.context)},
		"token as context":               {tok(dana.token), ctx(dana.token)},
		"context as token":               {tok(dana.context), ctx(dana.context)},
		"names exchanged":                {tok(dana.context), ctx(dana.token)},
		"another site's session":         {tok(elsewhere.token), ctx(elsewhere.context)},
		"K8 empty context":               {tok(dana.token), ctx("")},
		"K8 empty token":                 {tok(""), ctx(dana.context)},
		"K8 no value":                    {tok(dana.token), cookieContext},
		"K1 token twice":                 {tok("attacker"), tok(dana.token), ctx(dana.context)},
		"K1 token twice, good first":     {tok(dana.token), tok("attacker"), ctx(dana.context)},
		"K1 same token twice":            {tok(dana.token), tok(dana.token), ctx(dana.context)},
		"K1 context twice":               {tok(dana.token), ctx(dana.context), ctx("x")},
		"K3 lower case":                  {"__host-anteroom=" + dana.token, ctx(dana.context)},
		"K3 upper case":                  {"__HOST-ANTEROOM=" + dana.token, ctx(dana.context)},
		"K3 __Secure-":                   {"__Secure-anteroom=" + dana.token, ctx(dana.context)},
		"K3 no prefix":                   {"anteroom=" + dana.token, "anteroom-ctx=" + dana.context},
		"K4 blank before =":              {"__Host-anteroom =" + dana.token, ctx(dana.context)},
		"K4 blank after =":               {"__Host-anteroom= " + dana.token, ctx(dana.context)},
		"K4 blank name besides":          {tok(dana.token), "__Host-anteroom =x", ctx(dana.context)},
		"K6 in quotes":                   {`x="; ` + tok(dana.token) + `; ` + ctx(dana.context) + `; y="`, tok("x")},
		"K6 quoted value":                {`__Host-anteroom="` + dana.token + `"`, ctx(dana.context)},
		"K7 nameless":                    {"=" + tok(dana.token), "=" + ctx(dana.context)},
		"K9 comma":                       {tok(dana.token) + "," + tok(dana.token), ctx(dana.context)},
		"padding":                        {tok(dana.token + "="), ctx(dana.context + "=")},
		"signature cut":                  {tok(dana.token[:len(dana.token)-1]), ctx(dana.context)},
		"context cut":                    {tok(dana.token), ctx(dana.context[:len(dana.context)-1])},
		"oversize token":                 {tok(strings.Repeat("A", 9000)), ctx(dana.context)},
	}
	for id, cookies := range none {
		t.Run(id, func(t *testing.T) {
			line := "Cookie: " + strings.Join(cookies, "; ")
			own := r.authority(appHost)
			api, _ := r.attack(t, row{payload: get("/members/x", own, line, "Accept: application/json"), want: []int{401}})
			page, _ := r.attack(t, row{payload: get("/members/x", own, line, "Accept: text/html", "Sec-Fetch-Mode: navigate"), want: []int{302}})
			if len(api.Answers) == 1 && !strings.HasPrefix(api.Answers[0].Header.Get("Content-Type"), "application/problem+json") {
				t.Errorf("the answer to a program is %s", api.Answers[0].Header.Get("Content-Type"))
			}
			if len(page.Answers) == 1 && !strings.HasPrefix(page.Answers[0].Header.Get("Location"), "/.anteroom/login?return_to=") {
				t.Errorf("a page is sent to %q", page.Answers[0].Header.Get("Location"))
			}
			// On a public page nobody is signed in, and nothing of the cookies is passed on.
			r.attack(t, row{payload: get("/public/x", own, line, "Connection: close"), targets: []string{"/public/x"}, want: []int{200}})
		})
	}
	t.Run("K2 two Cookie lines, token twice", func(t *testing.T) {
		r.attack(t, row{payload: get("/members/x", r.authority(appHost), dana.line(), "Cookie: "+tok("x")), want: []int{401}})
	})
	t.Run("K2 halves in two lines", func(t *testing.T) {
		r.attack(t, row{payload: get("/members/x", r.authority(appHost), "Cookie: "+tok(dana.token), "Cookie: "+ctx(dana.context)),
			targets: []string{"/members/x"}, who: dana, want: []int{200, 401}})
	})
	t.Run("a bearer token is no session", func(t *testing.T) {
		r.attack(t, row{payload: get("/members/x", r.authority(appHost), "Authorization: Bearer "+dana.token, "Cookie: "+ctx(dana.context)), want: []int{401}})
	})
	t.Run("S7 both halves together", func(t *testing.T) { // the documented limit of a copied cookie jar
		_, got := r.attack(t, row{payload: r.ask("/members/x", dana, "Cookie: app=1; x=y"), targets: []string{"/members/x"}, who: dana, want: []int{200}})
		for _, received := range got {
			if v := received.values("Cookie"); len(v) != 1 || strings.ReplaceAll(v[0], " ", "") != "app=1;x=y" {
				t.Errorf("the application's own cookies arrived as %q", v)
			}
		}
	})
	for id, cookies := range map[string]string{
		"K6 sandwich":  `$Version=1; s="a; ` + tok(dana.token) + `"; ` + ctx(dana.context) + `; app=1`,
		"K6 sandwich2": `x="; ` + tok(dana.token) + `; y="; ` + ctx(dana.context) + `; app=1`,
		"K6 spelling":  `__HOST-anteroom=a; __host-ANTEROOM-ctx=b; __Host-anteroom-other=c; app=1`,
	} {
		t.Run(id, func(t *testing.T) { // whoever this is: no half of a session arrives
			_, got := r.attackAs(t, row{payload: get("/public/x", r.authority(appHost), "Cookie: "+cookies, "Connection: close"), targets: []string{"/public/x"}, want: []int{200}}, dana, nil)
			for _, received := range got {
				if !strings.Contains(received.Head, "app=1") {
					t.Errorf("the application's own cookie is gone: %s", received.Head)
				}
			}
		})
	}
	t.Run("K11 many cookies", func(t *testing.T) {
		many := strings.Repeat("c=0123456789012345678901234567890123456789; ", 200)
		e, _ := r.attack(t, row{payload: get("/members/x", r.authority(appHost), dana.line()+"; "+many), targets: []string{"/members/x"}, who: dana, want: []int{200, 431}})
		r.attack(t, row{payload: get("/members/x", r.authority(appHost), dana.line()+"; "+strings.Repeat(many, 8)), want: []int{431}})
		_ = e
	})
}

// attackAs checks a row whose sender may count as one of several people.
func (r *rig) attackAs(t *testing.T, a row, candidates ...*session) (*exchange, []*received) {
	t.Helper()
	r.dump.take()
	e := send(t, r.addr(), appHost, a.payload, 1)
	got := r.dump.take()
	if !acceptable(e.status(), a.want) {
		t.Errorf("answered %d, want %v", e.status(), a.want)
	}
	var problems []string
	for _, who := range candidates {
		a.who = who
		if problems = broken(a, e, got); len(problems) == 0 {
			return e, got
		}
	}
	t.Error(strings.Join(problems, "\n"))
	return e, got
}

// One answer for whoever has no session: existing or not, protected in one way or another (S11, S16).
func TestNoSessionIsOneAnswer(t *testing.T) {
	r := newRig(t, standard)
	var first string
	for _, target := range []string{"/members/x", "/admin/x", "/records/1", "/does-not-exist", "/patients/pat/1"} {
		t.Run(target, func(t *testing.T) {
			e, _ := r.attack(t, row{payload: r.ask(target, nil, "Accept: application/json"), want: []int{401}})
			if len(e.Answers) != 1 {
				t.Fatal("no answer")
			}
			a := e.Answers[0]
			if got := a.Header.Get("WWW-Authenticate"); got != `Anteroom uri="/.anteroom/login"` {
				t.Errorf("WWW-Authenticate is %q", got)
			}
			var problem struct {
				Type   string
				Status int
			}
			if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || problem.Type != "urn:anteroom:problem:no-session" || problem.Status != 401 {
				t.Errorf("the problem is %s (%v)", a.Body, err)
			}
			if cache := a.Header.Get("Cache-Control"); !strings.Contains(cache, "no-store") {
				t.Errorf("Cache-Control is %q: a shared cache could keep a refusal", cache)
			}
			shape := shapeOf(a)
			if first == "" {
				first = shape
			}
			if shape != first {
				t.Errorf("this path is told from others by its refusal:\n%s\nand\n%s", shape, first)
			}
		})
	}
	for id, headers := range map[string][]string{
		"script":      {"Accept: */*", "Sec-Fetch-Mode: cors"},
		"XHR":         {"Accept: text/html", "X-Requested-With: XMLHttpRequest"},
		"JSON":        {"Accept: application/json"},
		"no Accept":   nil,
		"image":       {"Accept: image/*", "Sec-Fetch-Mode: no-cors"},
		"a websocket": {"Accept: text/html", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
	} {
		t.Run("S11 "+id, func(t *testing.T) {
			r.attack(t, row{payload: get("/members/x", r.authority(appHost), headers...), want: []int{401}})
		})
	}
}

// shapeOf is an answer without what differs by chance: time, reference numbers.
func shapeOf(a answer) string {
	var problem map[string]any
	if json.Unmarshal([]byte(a.Body), &problem) == nil {
		delete(problem, "ref")
		delete(problem, "reference")
		delete(problem, "instance")
	}
	body, _ := json.Marshal(problem)
	header := a.Header.Clone()
	header.Del("Date")
	header.Del("Content-Length")
	b, _ := json.Marshal(header)
	return string(b) + "\n" + string(body)
}
