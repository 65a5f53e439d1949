package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestRow35 A level that is asked for is in the sign-in or there is no access; a provider that says nothing vouches for nothing.
func TestRow35(t *testing.T) {
	p := compile(t, "allow any", "allow public /open/** /form", "allow scope x GET", "require acr mfa,urn:eid:high /admin/** /open/x", "require amr otp,hwk POST /admin/**", "require max_age 5m /fresh", "require acr mfa /own/{user}", "require max_age 1h POST /form")
	who := func(acr string, age time.Duration, amr ...string) *Subject {
		return &Subject{Username: "ann", ACR: acr, AMR: amr, AuthTime: noon.Add(-age)}
	}
	bearer := *who("mfa", time.Minute)
	bearer.Bearer, bearer.Scopes = true, []string{"x"}
	weak := bearer
	weak.ACR = ""
	checkAsks(t, p, []ask{
		{who("mfa", 0), "GET", "/admin/x", ReasonAllowed}, {who("urn:eid:high", 0), "GET", "/admin", ReasonAllowed},
		{who("", 0), "GET", "/admin/x", ReasonStepUp}, {who("MFA", 0), "GET", "/admin/x", ReasonStepUp}, {who("mfa ", 0), "GET", "/admin/x", ReasonStepUp}, {who("mfa urn:eid:high", 0), "GET", "/admin/x", ReasonStepUp},
		{who("mfa", 0), "POST", "/admin/x", ReasonStepUp}, {who("mfa", 0, "pwd", "hwk"), "POST", "/admin/x", ReasonAllowed}, {who("mfa", 0, "OTP"), "POST", "/admin/x", ReasonStepUp}, {who("", 0, "otp"), "POST", "/admin/x", ReasonStepUp},
		// As a deny, it is not dodged by a spelling.
		{who("", 0), "GET", "/ADMIN/x", ReasonStepUp}, {who("", 0), "GET", "/%61dmin", ReasonStepUp}, {who("", 0), "GET", "/admin/", ReasonStepUp}, {who("", 0), "GET", "/OWN/ANN", ReasonStepUp}, {who("", 0), "GET", "/own/bob", ReasonAllowed},
		{who("", 5*time.Minute), "GET", "/fresh", ReasonAllowed}, {who("", 5*time.Minute+time.Second), "GET", "/fresh", ReasonStepUp}, {&Subject{Username: "ann"}, "GET", "/fresh", ReasonStepUp},
		{who("", -time.Minute), "GET", "/fresh", ReasonAllowed}, {who("", -time.Hour), "GET", "/fresh", ReasonStepUp}, // a clock that is an hour ahead proves nothing
		// What is open to everybody is not, where a level is asked for.
		{nil, "GET", "/open/x", ReasonNoSession}, {nil, "GET", "/open/X", ReasonNoSession}, {nil, "GET", "/open/y", ReasonAllowed}, {who("", 0), "GET", "/open/x", ReasonStepUp}, {who("mfa", 0), "GET", "/open/x", ReasonAllowed},
		{nil, "GET", "/form", ReasonAllowed}, {nil, "POST", "/form", ReasonNoSession}, {nil, "GET", "/admin/x", ReasonNoSession},
		// Row 68: the same for tokens; what they may not do at all is said first.
		{&bearer, "GET", "/admin/x", ReasonAllowed}, {&weak, "GET", "/admin/x", ReasonStepUp}, {&weak, "POST", "/admin/x", ReasonNoRule}, {token(""), "GET", "/admin/x", ReasonScope},
	})
	if d := p.Decide(Request{Method: "GET", Path: parse(t, "/fresh"), Who: who("", 0)}); d.Reason != ReasonStepUp {
		t.Errorf("without a time: %+v", d)
	}
	if !p.Uses().Time || compile(t, "allow any", "require acr x").Uses().Time || (*Policy)(nil).Uses().Time {
		t.Error("UsesTime")
	}
	d := p.Decide(Request{Method: "POST", Path: parse(t, "/admin/x"), Who: who("mfa", 0), Now: noon})
	want := Decision{Reason: ReasonStepUp, Rule: "require amr otp,hwk POST /admin/** (Caddyfile:5)", Route: "/admin/**",
		Need: Need{ACR: []string{"mfa", "urn:eid:high"}, AMR: [][]string{{"otp", "hwk"}}}}
	if !reflect.DeepEqual(d, want) { // also the level that is there already: the next sign-in may not show it
		t.Errorf("%+v", d)
	}
}

func TestNeedsAreAddedUp(t *testing.T) {
	p := compile(t, "allow any", "deny any /x/y/denied", "require acr a,b,c /x/**", "require acr c,b,d /x/y/**", "require amr p", "require amr q,r /x/*/z", "require max_age 1h", "require max_age 30s /x/y/z")
	d := p.Decide(Request{Method: "GET", Path: parse(t, "/x/y/z"), Who: alice, Now: noon})
	want := Need{ACR: []string{"c", "b"}, AMR: [][]string{{"p"}, {"q", "r"}}, MaxAge: 30 * time.Second}
	if len(d.Need.ACR) == 2 && d.Need.ACR[0] == "b" {
		want.ACR = []string{"b", "c"}
	}
	if len(d.Need.AMR) == 2 && d.Need.AMR[0][0] == "q" {
		want.AMR = [][]string{{"q", "r"}, {"p"}}
	}
	if !reflect.DeepEqual(d.Need, want) {
		t.Errorf("%+v", d)
	}
	again := p.Decide(Request{Method: "GET", Path: parse(t, "/x/q"), Who: alice, Now: noon})
	if !reflect.DeepEqual(again.Need, Need{ACR: []string{"a", "b", "c"}, AMR: [][]string{{"p"}}, MaxAge: time.Hour}) {
		t.Errorf("the lines were changed: %+v", again)
	}
	checkAsks(t, p, []ask{{alice, "GET", "/x/y/denied", ReasonDenied}})
	// Each two have a level in common and all three none: nobody is sent round in a circle.
	p = compile(t, "allow any", "require acr a,b /x", "require acr b,c /x", "require acr a,c /x")
	checkAsks(t, p, []ask{{&Subject{ACR: "a"}, "GET", "/x", ReasonDenied}, {nil, "GET", "/x", ReasonNoSession}})
}

func TestUnmeetable(t *testing.T) {
	for _, c := range []struct {
		first, second string
		bad           bool
	}{
		{"require acr a", "require acr b", true}, {"require acr a /x", "require acr b /x/**", true}, {"require acr a /x/", "require acr b /X", true}, {"require acr a /*/y", "require acr b /x/*", true},
		{"require acr a GET /x", "require acr b HEAD /x", true}, {"require acr a /u/{user}", "require acr b /u/bob", true}, {"require acr a /x/y/**", "require acr b /x/**", true}, {"require acr a /**", "require acr b /", true},
		{"require acr a GET /x", "require acr b POST /x", false}, {"require acr a /x", "require acr b /y", false}, {"require acr a,b", "require acr b,c", false}, {"require acr a /x/y", "require acr b /x", false},
		{"require acr a", "require amr b", false}, {"require acr a /x/*", "require acr b /x", false}, {"require acr a /x/*/z", "require acr b /x/y", false},
	} {
		_, err := Compile(lines("allow any", c.first, c.second))
		if (err != nil) != c.bad {
			t.Errorf("%s | %s: %v", c.first, c.second, err)
		} else if err != nil && (!strings.Contains(err.Error(), "Caddyfile:3: `"+c.second) || !strings.Contains(err.Error(), c.first+" (Caddyfile:2)")) {
			t.Errorf("message %q", err)
		}
	}
}

// What a step-up asks for has to fit through the sign-in, or the page would ask in vain and for ever.
func TestNeedsFit(t *testing.T) {
	many := func(n int, sep string) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("m%d", i))
		}
		return strings.Join(names, sep)
	}
	each := func(kind string, n int) (texts []string) {
		for i := range n {
			texts = append(texts, fmt.Sprintf("require %s x%d /x%d", kind, i, i))
		}
		return texts
	}
	long := strings.Repeat("l", 255)
	for name, c := range map[string]struct {
		texts []string
		bad   bool
	}{
		"16 names": {[]string{"require acr " + many(16, ",")}, false}, "17 names": {[]string{"require amr " + many(17, ",")}, true},
		"8 lists": {each("amr", 8), false}, "9 lists": {each("amr", 9), true}, "one list in many lines": {[]string{"require amr a,b /x", "require amr a,b /y"}, false}, "levels do not add up": {each("acr", 100), false},
		"long level": {[]string{"require acr " + long + ",b" + long[20:] + " /x"}, false}, "too long together": {[]string{"require acr " + long + " /x", "require amr " + long + " /y"}, true},
	} {
		if _, err := Compile(lines(append([]string{"allow any"}, c.texts...)...)); (err != nil) != c.bad || err != nil && !strings.Contains(err.Error(), "more than a sign-in can be asked for") {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := compile(t, "allow any", "require amr a,b", "require amr a,b /x", "require amr c /x").Decide(Request{Method: "GET", Path: parse(t, "/x"), Who: alice, Now: noon})
	if len(d.Need.AMR) != 2 {
		t.Errorf("%+v", d.Need)
	}
}
