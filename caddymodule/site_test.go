package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"
)

// rows T:path, 1.M: what Caddy's reader would change in a condition without a word opens a line. A comment of CEL swallowed the
// lines after it, which come joined into one; an escaped quote ended a text; blanks within '…' became one; {path} became another text.
func TestWhenStaysAsWritten(t *testing.T) {
	for name, c := range map[string]struct{ block, say string }{
		"a comment hides a line":  {"allow role doctor /x/** when {\n\tuser.org == \"lab\" // only the lab\n\t&& request.address.startsWith(\"10.\")\n}", "`#`"},
		"a comment is glued":      {"allow role doctor /x/** when {\n\tuser.device_known//the lab\n\t&& user.org == \"lab\"\n}", "`#`"},
		"a comment in one line":   {`allow role doctor /x/** when user.device_known // && user.org == "lab"`, "`#`"},
		"an escaped quote":        {"allow role doctor /x/** when {\n\tuser.org == \"x\\\" || user.name == \\\"y\"\n}", "backquotes"},
		"two blanks in a text":    {"deny any /x/** when {\n\tuser.org == 'st  mary'\n}", "blanks"},
		"a placeholder":           {"deny any /x/** when {\n\trequest.path == \"/{path}\"\n}", "request.path"},
		"a placeholder, one word": {"deny any /x/** when `request.path == \"/{path}\"`", "request.path"},
		"an argument":             {"deny any /x/** when `user.org == \"{args[0]}\"`", "request.path"},
		"the environment":         {"deny any /x/** when {\n\tuser.org == \"{env.LAB}\"\n}", "request.path"},
		"and in a braced word":    {`deny any /x/** when {request.path.startsWith("/{host}")}`, "request.path"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, err := adapt(t, b.file("", site("app.test", c.block)))
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Fatalf("it was accepted, or the message says nothing of %s: %v", c.say, err)
			}
		})
	}
}

func TestWhenWithLiterals(t *testing.T) {
	for block, want := range map[string]string{
		"allow any /x/** when {\n\trequest.path == \"/a//b  c\" # a comment of Caddy\n\t&& user.org == 'lab'\n}":                      `request.path == "/a//b  c" && user.org == 'lab'`,
		"allow any /x/** when {\n\trequest.path=='/a//b' && user.org==\"lab\"\n}":                                                     `request.path=='/a//b' && user.org=="lab"`,
		"allow any /x/** when `user.org == \"a\\\"b\" && user.name == 'a  b' // the lab`":                                             `user.org == "a\"b" && user.name == 'a  b' // the lab`,
		"allow any /x/** when {\n\trequest.path.matches(\"^/x/[0-9]{2}\\\\.pdf$\") && request.path.matches('^/x/\\\\d+\\\\.pdf$')\n}": `request.path.matches("^/x/[0-9]{2}\\.pdf$") && request.path.matches('^/x/\\d+\\.pdf$')`,
	} {
		rules := rulesOf(t, block)
		if got := rules[0][len(rules[0])-1]; got != want {
			t.Errorf("the condition is\n%s, want\n%s", got, want)
		}
	}
}

// Two sites of one host have the same rules word by word: a name with blanks is no other line.
func TestTwinsAreComparedByWords(t *testing.T) {
	a := new(App)
	one := &Site{Rules: []Rule{{Words: []string{"allow", "user", "ann group lab"}}}}
	two := &Site{Rules: []Rule{{Words: []string{"allow", "user", "ann", "group", "lab"}}}}
	places := []place{{server: "a", hosts: []string{"app.test"}, site: one}, {server: "b", hosts: []string{"app.test"}, site: two}}
	if surveyTwins(a, places) == nil {
		t.Fatal("two policies that differ pass for one")
	}
}

// row 1.M: a deny whose name Caddy did not put in holds for nobody, and an expectation about nobody always holds.
func TestPlaceholdersAreNoNames(t *testing.T) {
	b := newBench(t)
	for _, line := range []string{
		"deny user {env.BAD} /x", `deny user "{args[0]}" /x`, "deny user {user} /x", "deny org {http.request.host} /x", "deny user {vars.x},ann /x",
		`deny user " ann" /x`, `deny user "ann , bob" /x`, "expect user:{env.BAD} GET / allow",
	} {
		if got := b.problems(t, b.global("", site("app.test", "allow any\n"+line))); !strings.Contains(got, "is no name") {
			t.Errorf("%s: %q", line, got)
		}
	}
	for _, line := range []string{"budget any 5 distinct {patient} per 1h on /p/{patient}/**", `deny user "ann lee" /x`, "expect user:ann GET / allow"} {
		if got := b.problems(t, b.global("", site("app.test", "allow any\n"+line))); strings.Contains(got, "is no name") {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// A config that no Caddyfile made: the name of a network that reads like an address would open a line to others.
func TestNamesInJSON(t *testing.T) {
	a := &App{Networks: map[string][]string{"10.1.2.3": {"0.0.0.0/0"}}}
	if a.checkPolicies() == nil {
		t.Error("a network may be called 10.1.2.3")
	}
	if a = (&App{Policies: []*Policy{{Name: "p q"}}}); a.checkPolicies() == nil {
		t.Error("a policy may be called `p q`")
	}
}

// rows D: claims are not told apart by provider as usernames are; whoever may name a patient at one gets in as the other's.
func TestClaimsOfSeveralProviders(t *testing.T) {
	k := known{givers: map[string][]string{"ward": {"hospital", "lab"}, "pid": {"hospital"}}}
	for line, warns := range map[string]bool{
		"allow any /p/{claim.ward}/**":                   true,
		"allow any /p/** when claim.ward==\"3\"":         true,
		"break_glass any on /p/{claim.ward}/** for 30m":  true,
		"allow any idp hospital /p/{claim.ward}/**":      false,
		"allow any /p/{claim.pid}/**":                    false,
		"allow any /p/{claim.ward_2}/**":                 false,
		"deny any /p/{claim.ward}/**":                    false,
		"allow scope a.b /p/{claim.ward}/**":             false,
		"allow any /p/** when claim.ward2 == claim.ward": true,
	} {
		if got := k.sharedClaims([]Rule{{Words: strings.Fields(line)}}); (len(got) > 0) != warns {
			t.Errorf("%s: %q", line, got)
		}
	}
	a := &App{IdentityRaw: []json.RawMessage{
		[]byte(`{"source":"oidc","name":"hospital","claims":{"ward":"ward"}}`), []byte(`{"source":"oidc","name":"lab","claims":{"ward":"unit"}}`),
	}}
	if known, err := a.known(); err != nil || len(known.givers["ward"]) != 2 {
		t.Errorf("givers: %v, %v", known.givers, err)
	}
}

// A null in a list of a JSON config is refused, where it made the whole program panic: also that of `policy`.
func TestNullsInJSON(t *testing.T) {
	b := newBench(t)
	config, err := adapt(t, b.file("", site("app.test", "allow any")))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"policies", "bearer"} {
		broken := []byte(strings.Replace(string(config), `"anteroom":{`, `"anteroom":{"`+list+`":[null],`, 1))
		if err := validate(t, broken); err == nil || !strings.Contains(err.Error(), "null") {
			t.Errorf("%s: %v", list, err)
		}
		if _, err := readJudged(broken); err == nil || !strings.Contains(err.Error(), "null") {
			t.Errorf("policy with %s: %v", list, err)
		}
	}
}
