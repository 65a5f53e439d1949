package session

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// whole is a grant that says all that one may.
func whole(g *Grant) {
	g.Groups, g.Device = []string{"icu", "ward-3"}, true
	g.Claims = map[string]string{"patient_id": "p-7", "unit": "Zoë & <b>"}
}

// TestGroupsAndClaims: they come back as they were given, on every node, at every site
// and after a renewal.
func TestGroupsAndClaims(t *testing.T) {
	m, c := manager(t)
	s, cookies := keeping(t, m, Admission{}, whole)
	want := s.Grant
	if !reflect.DeepEqual(want.Groups, []string{"icu", "ward-3"}) || want.Claims["unit"] != "Zoë & <b>" || !want.Device {
		t.Fatalf("%+v", want)
	}
	again := start(t, m.store, m.sealer, c.now)
	if got := wantFound(t, again, lines(cookies)); !reflect.DeepEqual(got.Grant, want) {
		t.Errorf("another node: %+v", got.Grant)
	}
	_, site, err := m.Join(t.Context(), &Session{Grant: s.Grant, ID: s.ID, Started: s.Started}, "lab.example")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Find(lines(site), "lab.example"); err != nil || !reflect.DeepEqual(got.Grant, want) {
		t.Errorf("another site: %+v, %v", got, err)
	}
	pass(m, c, 5*time.Minute)
	_, next, err := renew(m, s, lines(cookies), host)
	if err != nil || !reflect.DeepEqual(next.Grant, want) {
		t.Errorf("renewed: %+v, %v", next, err)
	}
}

// Row 77: what the token says of them, and that a grant without them is as it ever was.
func TestTokenClaimsMore(t *testing.T) {
	m, _ := manager(t)
	s, cookies := keeping(t, m, Admission{}, whole)
	payload, err := decodeLoosely(strings.Split(cookies[0].Value, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"iss":"https://app.example:8443","aud":"app.example","sub":"248289761001","idp":"hospital","preferred_username":"dana",` +
		`"name":"Dana Doe","email":"dana@example.org","roles":["doctor","finance"],"groups":["icu","ward-3"],"org":"ward-3","acr":"urn:acr:2","amr":["pwd","otp"],` +
		`"auth_time":1893553400,"iat":1893553445,"exp":1893554345,"jti":"` + s.TokenID + `","sid":"` + s.ID + `",` +
		`"claims":{"patient_id":"p-7","unit":"Zoë & <b>"},"device":true,"start":1893553445,` +
		`"cnf":{"ctx#S256":"` + s.wire().Confirm.Context + `"}}`
	if string(payload) != want {
		t.Errorf("%s", payload)
	}
}

// TestAttackInjectedClaims: a token of ours that was made with anything else in these
// three members is no session: an older or a broken node must not open doors.
func TestAttackInjectedClaims(t *testing.T) {
	l := newLab(t)
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("c", i)] = "x"
		}
		return m
	}
	l.accepted(t, "control", l.with(map[string]any{"groups": []string{"icu"}, "claims": map[string]string{"a": "b"}, "device": true}))
	l.accepted(t, "eight", l.with(map[string]any{"claims": many(8)}))
	l.accepted(t, "64", l.with(map[string]any{"groups": slices.Repeat([]string{"g"}, 64)}))
	for name, changes := range map[string]map[string]any{
		"nine claims":              {"claims": many(9)},
		"65 groups":                {"groups": slices.Repeat([]string{"g"}, 65)},
		"claims are a list":        {"claims": []string{"a"}},
		"claims are a text":        {"claims": "a"},
		"a claim is a number":      {"claims": map[string]any{"a": 1}},
		"a claim is a list":        {"claims": map[string]any{"a": []string{"b"}}},
		"a claim is null":          {"claims": map[string]any{"a": nil}},
		"a claim is empty":         {"claims": map[string]any{"a": ""}},
		"a claim of 256 bytes":     {"claims": map[string]any{"a": strings.Repeat("x", 256)}},
		"a claim of two lines":     {"claims": map[string]any{"a": "b\nc"}},
		"a name with a dot":        {"claims": map[string]any{"a.b": "c"}},
		"a name in capitals":       {"claims": map[string]any{"Patient": "c"}},
		"a name that closes":       {"claims": map[string]any{"a}/**": "c"}},
		"no name":                  {"claims": map[string]any{"": "c"}},
		"groups are one text":      {"groups": "icu"},
		"a group with a comma":     {"groups": []string{"icu,admin"}},
		"a group is a number":      {"groups": []any{1}},
		"a group without a name":   {"groups": []string{""}},
		"groups are an object":     {"groups": map[string]bool{"icu": true}},
		"the device is a text":     {"device": "true"},
		"the device is a number":   {"device": 1},
		"the claims are false":     {"claims": false},
		"an object in the objects": {"claims": map[string]any{"a": map[string]string{"b": "c"}}},
	} {
		l.refused(t, name, l.with(changes))
	}
	// JSON that says it twice, and names in another case, which are other names.
	l.refused(t, "J43 claims twice", l.withMember(`"claims":{"a":"b"},"claims":{"a":"c"}`))
	l.refused(t, "J43 one claim twice", l.withMember(`"claims":{"a":"b","a":"c"}`))
	token := l.withMember(`"Claims":{"a":"b"},"GROUPS":["icu"],"Device":true,"claim.a":"b"`)
	if s := wantFound(t, l.m, line(token, l.context)); len(s.Groups) > 0 || len(s.Claims) > 0 || s.Device {
		t.Errorf("J42: %+v", s.Grant)
	}
}

// TestIssueRefusesClaims: the same for who signs in.
func TestIssueRefusesClaims(t *testing.T) {
	m, _ := manager(t)
	for name, change := range map[string]func(*Grant){
		"a group that is two": func(g *Grant) { g.Groups = []string{"a,b"} },
		"65 groups":           func(g *Grant) { g.Groups = slices.Repeat([]string{"g"}, 65) },
		"a name":              func(g *Grant) { g.Claims = map[string]string{"A": "b"} },
		"an empty value":      func(g *Grant) { g.Claims = map[string]string{"a": ""} },
		"two lines":           func(g *Grant) { g.Claims = map[string]string{"a": "b\r\nc"} },
		"not UTF-8":           func(g *Grant) { g.Claims = map[string]string{"a": "\xff"} },
		"256 bytes":           func(g *Grant) { g.Claims = map[string]string{"a": strings.Repeat("x", 256)} },
	} {
		g := grant()
		change(&g)
		if _, _, err := m.Issue(t.Context(), g, host, Admission{}); !errors.Is(err, ErrGrant) {
			t.Errorf("%s: %v", name, err)
		}
		s, _ := issue(t, m)
		if _, _, err := m.Join(t.Context(), &Session{Grant: g, ID: s.ID, Started: s.Started}, host); !errors.Is(err, ErrGrant) {
			t.Errorf("%s, joining: %v", name, err)
		}
	}
}

// What a caller does to its own grant afterwards changes no session.
func TestClaimsAreOurs(t *testing.T) {
	m, _ := manager(t)
	g := grant()
	whole(&g)
	s, cookies, err := m.Issue(t.Context(), g, host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	g.Groups[0], g.Claims["patient_id"] = "er", "p-8"
	joined, _, err := m.Join(t.Context(), s, "lab.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Session{s, wantFound(t, m, lines(cookies)), joined} {
		if s.Groups[0] != "icu" || s.Claims["patient_id"] != "p-7" {
			t.Errorf("%+v", s.Grant)
		}
	}
	joined.Claims["patient_id"] = "p-9"
	if s.Claims["patient_id"] != "p-7" {
		t.Error("two sessions share one map")
	}
}

// TestTooLargeSaysWhat: the message names what takes the room and the lines to mend, and
// nothing that the grant holds.
func TestTooLargeSaysWhat(t *testing.T) {
	m, _ := manager(t)
	g := grant()
	for i := range 60 {
		g.Groups = append(g.Groups, fmt.Sprint("secret-group-of-the-ward-", i))
	}
	g.Claims = map[string]string{"a": strings.Repeat("secret", 40), "b": strings.Repeat("secret", 40), "c": strings.Repeat("secret", 40), "d": strings.Repeat("secret", 40)}
	_, cookies, err := m.Issue(t.Context(), g, host, Admission{})
	if !errors.Is(err, ErrTooLarge) || cookies != nil {
		t.Fatalf("%v", err)
	}
	for _, words := range []string{"4096-byte cookie", "2 roles", "60 groups", "4 claims", "`role`, `group` and `claim`"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("lacks %q: %v", words, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	// Eight claims as long as they may be are too many for one cookie, and two fit.
	g = grant()
	g.Claims = map[string]string{"a": strings.Repeat("x", 255), "b": strings.Repeat("y", 255)}
	if _, _, err := m.Issue(t.Context(), g, host, Admission{}); err != nil {
		t.Error(err)
	}
}

// TestClaimsFollow: what the source says at an asking holds on all sites and nodes from
// the next renewal on, also that it says nothing more; the device does not follow.
func TestClaimsFollow(t *testing.T) {
	p := new(provider)
	inBubble(t, 2, func(t *testing.T, w *shared) {
		a, b := w.nodes[0], w.nodes[1]
		s, cookies := keeping(t, a, toVerify, whole)
		_, site, err := a.Join(t.Context(), s, "lab.example")
		if err != nil {
			t.Fatal(err)
		}
		v := &visitor{s: s, lines: map[string][]string{host: lines(cookies), "lab.example": lines(site)}}
		steps := []struct {
			says   func(*Verdict)
			groups []string
			claims map[string]string
		}{
			{nil, []string{"icu", "ward-3"}, s.Claims},
			{func(v *Verdict) {
				v.Grant.Groups, v.Grant.Claims, v.Grant.Device = []string{"er"}, map[string]string{"patient_id": "p-8"}, false
			}, []string{"er"}, map[string]string{"patient_id": "p-8"}},
			{func(v *Verdict) { v.Grant.Groups, v.Grant.Claims = nil, nil }, nil, nil},
		}
		for i, step := range steps {
			p.set(nil, step.says)
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			for _, at := range []struct {
				m    *Manager
				site string
			}{{a, host}, {b, "lab.example"}} {
				got, err := v.visit(at.m, at.site)
				if err != nil || !slices.Equal(got.Groups, step.groups) || !maps.Equal(got.Claims, step.claims) || !got.Device {
					t.Errorf("step %d at %s: %+v, %v", i, at.site, got, err)
				}
			}
		}
	}, p.option)
}

// A verdict that no session may hold ends the sign-on, and the log does not say what it
// held.
func TestBadVerdictOfClaims(t *testing.T) {
	var log bytes.Buffer
	p := new(provider)
	inBubble(t, 1, func(t *testing.T, w *shared) {
		v := newVisitor(t, w.nodes[0], toVerify)
		p.set(nil, func(v *Verdict) { v.Grant.Claims = map[string]string{"unit": "secret\nvalue"} })
		time.Sleep(5 * time.Minute)
		if _, err := v.visit(w.nodes[0], host); err == nil {
			t.Error("the sign-on goes on")
		}
		wantNone(t, w.nodes[0], v.lines[host])
	}, p.option, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), "no session may hold") {
		t.Errorf("%s", log.String())
	}
}

// TestAssertionTellsGroups: applications are told groups, and neither claims nor whether
// the browser was known.
func TestAssertionTellsGroups(t *testing.T) {
	m, c := manager(t)
	s, _ := keeping(t, m, Admission{}, whole)
	of := func(token string, err error) map[string]any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return claimsOf(t, m, token)
	}
	all := of(m.Assertion(s, "app"))
	if fmt.Sprint(all["groups"]) != "[icu ward-3]" || all["claims"] != nil || all["device"] != nil || strings.Contains(fmt.Sprint(all), "p-7") {
		t.Errorf("%v", all)
	}
	other := *s
	other.Groups = []string{"er"}
	if all := of(m.Assertion(&other, "app")); fmt.Sprint(all["groups"]) != "[er]" {
		t.Errorf("old groups are asserted: %v", all)
	}
	caller := Caller{Grant: s.Grant, Expires: c.now().Add(time.Hour), Token: [32]byte{1}}
	if all := of(m.AssertCaller(caller, "app.example", "app")); all["claims"] != nil || all["device"] != nil || strings.Contains(fmt.Sprint(all), "p-7") {
		t.Errorf("%v", all)
	}
}

// TestOwnNames: every cookie of ours, in every spelling that a browser takes or an odd
// parser reads, stays away from applications and is not theirs to set (K3, K12).
func TestOwnNames(t *testing.T) {
	flip := func(s string) string {
		b := []byte(s)
		for i := range b {
			if c := b[i]; i%2 == 0 && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
				b[i] = c ^ 0x20
			}
		}
		return string(b)
	}
	for _, name := range []string{
		CookieToken, CookieContext, "__Host-anteroom-device", "__Host-anteroom-emergency", "__Host-anteroom-last", "__Host-anteroom-try-AAAA",
		"__Host-anteroom-prompt", "__Host-anteroom-round", "__Host-anteroom-move", "__Host-anteroom-choice", "__Host-anteroom-leave", "__Host-anteroom-answer-AAAA",
	} {
		for _, spelled := range []string{name, strings.ToUpper(name), strings.ToLower(name), flip(name), name + ".x", name + "[x]", name + "%78"} {
			for _, before := range []string{"", " ", "\t", "=", " = ", "\"", "\x0b", "\u00a0", "\x00", ","} {
				if !IsOwnCookie(before + spelled + "=secret; Path=/; Secure") {
					t.Errorf("Set-Cookie: %q is not ours", before+spelled)
				}
				lines := []string{"a=1; " + before + spelled + "=secret", before + spelled + "=secret;a=1"}
				if !strings.ContainsAny(spelled, "[%") { // inside another cookie's value only what is a cookie's name counts
					lines = append(lines, `x="`+before+spelled+`=secret"; a=1`)
				}
				for _, in := range lines {
					h := http.Header{"Cookie": {in}}
					StripCookies(h)
					if left := strings.Join(h["Cookie"], "; "); strings.Contains(left, "secret") || !strings.Contains(left, "a=1") {
						t.Errorf("%q leaves %q", in, left)
					}
				}
			}
			h := http.Header{"Cookie": {"a=1", spelled + "=secret", "b=" + "2; " + spelled + "=secret"}}
			StripCookies(h)
			if !slices.Equal(h["Cookie"], []string{"a=1", "b=2"}) {
				t.Errorf("%q leaves %q", spelled, h["Cookie"])
			}
		}
	}
}
