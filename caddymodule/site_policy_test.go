package caddymodule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/budget"
	"github.com/anteroom-proxy/anteroom/emergency"
)

// rulesOf adapts a Caddyfile and returns the words of its one site's rules.
func rulesOf(t *testing.T, block string) [][]string {
	t.Helper()
	b := newBench(t)
	config, err := adapt(t, b.file("", "app.test {\n\tTLS\n\tanteroom {\n"+block+"\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var words [][]string
	var look func(any)
	look = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["handler"] == "anteroom" {
				for _, r := range v["rules"].([]any) {
					var line []string
					for _, w := range r.(map[string]any)["words"].([]any) {
						line = append(line, w.(string))
					}
					words = append(words, line)
				}
			}
			for _, inner := range v {
				look(inner)
			}
		case []any:
			for _, inner := range v {
				look(inner)
			}
		}
	}
	var all any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	look(all)
	return words
}

// TestWhen: every form in which Caddy's reader takes a condition becomes the same two words, with the quotes of the text.
func TestWhen(t *testing.T) {
	for name, block := range map[string]string{
		"a block":      "allow role doctor /x/** when {\n\tuser.org == \"lab\" &&\n\t\"a b\" in user.roles\n}",
		"backquotes":   "allow role doctor /x/** when `user.org == \"lab\" && \"a b\" in user.roles`",
		"glued braces": `allow role doctor /x/** when {user.org == "lab" && "a b" in user.roles}`,
		"bare":         `allow role doctor /x/** when user.org == "lab" && "a b" in user.roles`,
	} {
		t.Run(name, func(t *testing.T) {
			want := []string{"allow", "role", "doctor", "/x/**", "when", `user.org == "lab" && "a b" in user.roles`}
			rules := rulesOf(t, block+"\nallow any /after")
			if len(rules) != 2 || !slices.Equal(rules[0], want) || !slices.Equal(rules[1], []string{"allow", "any", "/after"}) {
				t.Errorf("it reads %q", rules)
			}
		})
	}
	for name, block := range map[string]string{
		"nothing":     "allow any when",
		"empty block": "allow any when {\n}",
		"empty":       "allow any when ``",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, err := adapt(t, b.file("", "app.test {\n\tTLS\n\tanteroom {\n"+block+"\n\t}\n}\n"))
			if name == "empty" && err == nil {
				return // the policy says so
			}
			if err == nil || !strings.Contains(err.Error(), "needs a condition") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// site is a gated site with these lines in its block.
func site(host, block string) string {
	return host + " {\n\tTLS\n\tanteroom {\n" + block + "\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
}

// global puts lines into the global block.
func (b bench) global(lines, sites string) string {
	return strings.Replace(b.file("", sites), "\t\tsession {", lines+"\n\t\tsession {", 1)
}

func (b bench) problems(t *testing.T, caddyfile string) string {
	t.Helper()
	config, err := adapt(t, strings.NewReplacer("DIR", b.dir, "TLS", "tls "+b.dir+"/tls.pem "+b.dir+"/tls.key").Replace(caddyfile))
	if err == nil {
		err = validate(t, config)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestAllProblemsAtOnce: one look shows what is wrong with all lines of all sites, each with its place and the mend.
func TestAllProblemsAtOnce(t *testing.T) {
	b := newBench(t)
	text := b.global("policy shared {\n\tdeny role NOBODY! /x\n}", site("app.test", "allow rol doctor\nallow any get /y\nuse shared")+
		site("other.test", "allow role doctor /z%2f\nexpect doctor GET / allow\nuse missing"))
	lines := strings.Split(text, "\n")
	at := func(words string) string {
		for i, line := range lines {
			if strings.Contains(line, words) {
				return "Caddyfile:" + itoa(i+1)
			}
		}
		t.Fatalf("no line %q", words)
		return ""
	}
	for range rounds {
		got := b.problems(t, text)
		for _, words := range []string{"deny role NOBODY!", "allow rol doctor", "allow any get", "allow role doctor /z%2f", "use missing"} {
			if !strings.Contains(got, at(words)) {
				t.Fatalf("%q (%s) is not among\n%s", words, at(words), got)
			}
		}
		if !strings.Contains(got, "write `role`") {
			t.Fatalf("no mend in\n%s", got)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestSharedPolicies: what `use` may name, and that no policy is forgotten.
func TestSharedPolicies(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct{ global, sites, want string }{
		"used":              {"policy p {\nallow role doctor\n}", site("app.test", "use p"), ""},
		"twice":             {"policy p {\nallow role doctor\n}", site("app.test", "use p") + site("other.test", "use p\nallow any /x"), ""},
		"two at once":       {"policy p {\nallow role doctor\n}\npolicy q {\ndeny any /x\n}", site("app.test", "use p q"), ""},
		"unknown":           {"policy p {\nallow role doctor\n}", site("app.test", "use p\nuse q"), "there is no such policy"},
		"none named":        {"", site("app.test", "allow any\nuse"), "`use` names no policy"},
		"never used":        {"policy p {\nallow role doctor\n}", site("app.test", "allow any"), "no site uses the policy p"},
		"empty":             {"policy p {\n}", site("app.test", "allow any"), "policy p is empty"},
		"same name":         {"policy p {\nallow any\n}\npolicy p {\nallow any\n}", site("app.test", "use p"), "stands twice"},
		"uses another":      {"policy p {\nuse q\n}", site("app.test", "use p"), "unrecognized line"},
		"expects":           {"policy p {\nexpect any GET / allow\n}", site("app.test", "use p"), "unrecognized line"},
		"bad name":          {"policy a/b {\nallow any\n}", site("app.test", "allow any"), "policy needs a name"},
		"nothing is opened": {"policy p {\ndeny any /x\n}", site("app.test", "use p"), "nobody could reach the app"},
		"named network":     {"network wards 10.1.0.0/16 2001:db8::/32", site("app.test", "allow any /** network wards"), ""},
		"unknown network":   {"", site("app.test", "allow any /** network wards"), "wards"},
		"bits beyond":       {"network wards 10.1.2.0/16", site("app.test", "allow any"), "write 10.1.0.0/16"},
		"no network":        {"network wards ten", site("app.test", "allow any"), "is no network"},
		"mapped":            {"network wards ::ffff:10.0.0.0/104", site("app.test", "allow any"), "IPv4 written as IPv6"},
		"network twice":     {"network w 10.0.0.0/8\nnetwork w 11.0.0.0/8", site("app.test", "allow any"), "stands twice"},
		"webhook in clear":  {"alarm webhook http://alarms.test/x", site("app.test", "allow any"), "https address"},
		"webhook here":      {"alarm webhook http://127.0.0.1:9/x", site("app.test", "allow any"), ""},
		"webhook, password": {"alarm webhook https://a:b@alarms.test/x", site("app.test", "allow any"), "without user name"},
		"odd paths":         {"", site("app.test", "allow any\npaths allow encoded_slash semicolon\npaths ignore_case"), ""},
		"odder paths":       {"", site("app.test", "allow any\npaths allow backslash"), "want one of encoded_slash"},
		"paths twice":       {"", site("app.test", "allow any\npaths allow semicolon\npaths allow semicolon"), "stands twice"},
		"paths of nothing":  {"", site("app.test", "allow any\npaths allow"), "write `paths allow"},
		"holds":             {"", site("app.test", "allow role doctor\nexpect doctor GET / allow\nexpect anonymous GET / login\nexpect patient GET / deny"), ""},
		"does not hold":     {"", site("app.test", "allow role doctor\nexpect patient GET / allow"), "expect patient GET / allow"},
		"who decided":       {"", site("app.test", "allow any\ndeny any /x\nexpect doctor GET /x allow"), "deny any /x"},
		"no expectation":    {"", site("app.test", "allow any\nexpect doctor /x"), "expect doctor /x"},
		"unknown role":      {"", site("app.test", "allow any /x\nallow role surgeon"), "surgeon"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.problems(t, b.global(c.global, c.sites))
			if name == "unknown role" && got == "" {
				return // a warning
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}

// TestSitesOfOneHost: two sites that differ by port have the same rules, wherever the lines are written.
func TestSitesOfOneHost(t *testing.T) {
	b := newBench(t)
	shared := "policy p {\nallow role doctor\n}"
	if got := b.problems(t, b.global(shared, site("app.test:8443", "use p")+site("app.test:9443", "allow role doctor"))); got != "" {
		t.Errorf("the same rules, once by name: %s", got)
	}
	for _, other := range []string{"use p\npaths ignore_case", "use p\nshadow deny any /x", "allow any"} {
		if got := b.problems(t, b.global(shared, site("app.test:8443", "use p")+site("app.test:9443", other))); !strings.Contains(got, "differ only by port") {
			t.Errorf("%q: %q", other, got)
		}
	}
}

// TestBoundsOfPolicies: what a line may say is what the ledger and the counter take; beyond it a budget would refuse everybody.
func TestBoundsOfPolicies(t *testing.T) {
	b := newBench(t)
	lines := func(distinct int, per, lasts time.Duration) string {
		return fmt.Sprintf("allow role doctor /patients/{patient}\nbudget role doctor %d distinct {patient} per %s\nbreak_glass role patient on /patients/{patient} for %s",
			distinct, per, lasts)
	}
	if got := b.problems(t, b.global("", site("app.test", lines(budget.MaxLimit, 30*24*time.Hour, emergency.MaxLife)))); got != "" || budget.MaxPer < 30*24*time.Hour {
		t.Error(got)
	}
	if got := b.problems(t, b.global("", site("app.test", lines(1, budget.MinPer, time.Minute)))); got != "" {
		t.Error(got)
	}
	for _, block := range []string{lines(budget.MaxLimit+1, time.Hour, time.Hour), lines(1, budget.MinPer-time.Second, time.Hour), lines(1, time.Hour, emergency.MaxLife+time.Minute)} {
		if got := b.problems(t, b.global("", site("app.test", block))); !strings.Contains(got, "Caddyfile:") {
			t.Errorf("%s\nloads: %q", block, got)
		}
	}
}
