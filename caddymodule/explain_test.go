package caddymodule

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

func minutes(n int) caddy.Duration { return caddy.Duration(time.Duration(n) * time.Minute) }

// TestExplainLifetimes: each value with the line that decides.
func TestExplainLifetimes(t *testing.T) {
	rules := []SessionRule{
		{Idle: minutes(20), Sessions: 3, OnLimit: "move", At: "f:1"},
		{Roles: []string{"doctor", "nurse"}, Idle: minutes(10), Sessions: 1, OnLimit: "move", At: "f:2"},
		{Roles: []string{"finance"}, Absolute: minutes(8), At: "f:3"},
		{Roles: []string{"auditor"}, Idle: minutes(30), Sessions: 1, OnLimit: "refuse", At: "f:4"},
	}
	lasts := func(e explainedTime) string { return fmt.Sprintf("%d %s %s", e.Seconds/60, e.Role, e.From) }
	allows := func(e explainedLimit) string { return fmt.Sprintf("%d%s %s %s", e.Count, e.OnLimit, e.Role, e.From) }
	for roles, want := range map[string][3]string{
		"":                {"20  f:1", "720  default", "3move  f:1"},
		"stranger":        {"20  f:1", "720  default", "3move  f:1"},
		"doctor":          {"10 doctor f:2", "720  default", "1move doctor f:2"},
		"auditor":         {"30 auditor f:4", "720  default", "1refuse auditor f:4"},
		"auditor,nurse":   {"10 nurse f:2", "720  default", "1refuse auditor f:4"},
		"finance":         {"8 finance f:3", "8 finance f:3", "3move  f:1"}, // idle cannot be longer
		"finance,auditor": {"8 finance f:3", "8 finance f:3", "1refuse auditor f:4"},
	} {
		idle, absolute, sessions, err := explainLifetimes(rules, rolesOf(roles))
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]string{lasts(idle), lasts(absolute), allows(sessions)}; got != want {
			t.Errorf("%q: %q, want %q", roles, got, want)
		}
	}
	idle, absolute, sessions, err := explainLifetimes(nil, []string{"doctor"})
	if err != nil || lasts(idle) != "15  default" || lasts(absolute) != "720  default" || allows(sessions) != "0  default" {
		t.Errorf("nothing said: %v %v %v %v", idle, absolute, sessions, err)
	}
	rules[0].Idle = minutes(8) // as long as the cut one, and yet not where that comes from
	if idle, _, _, err := explainLifetimes(rules, []string{"auditor", "finance"}); err != nil || lasts(idle) != "8 finance f:3" {
		t.Errorf("a cut time: %v %v", idle, err)
	}
	if _, _, _, err := explainLifetimes([]SessionRule{{Idle: minutes(9999), At: "f:1"}}, nil); err == nil {
		t.Error("a config that does not load is explained")
	}
}

func rolesOf(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// TestExplainTellsTheTruth: whatever the rules, the values are those that a sign-in gets, and the line that is named says
// just that value.
func TestExplainTellsTheTruth(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c"}
	for range 3000 {
		var rules []SessionRule
		at := map[string]SessionRule{}
		for i, role := range append([]string{""}, names...) {
			r := SessionRule{Idle: minutes(rnd.IntN(3) * (1 + rnd.IntN(3))), At: fmt.Sprint("f:", i)}
			if rnd.IntN(2) == 0 {
				r.Absolute = minutes(6 + rnd.IntN(4))
			}
			if rnd.IntN(2) == 0 {
				r.Sessions, r.OnLimit = 1+rnd.IntN(2), []string{"move", "refuse"}[rnd.IntN(2)]
			}
			if role != "" {
				r.Roles = []string{role}
			}
			if rnd.IntN(4) > 0 {
				rules = append(rules, r)
				at[r.At] = r
			}
		}
		all, err := lifetimes(rules)
		if err != nil {
			t.Fatal(err)
		}
		roles := slices.Clone(names[:rnd.IntN(4)])
		rnd.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
		of := all.Of(roles)
		idle, absolute, sessions, err := explainLifetimes(rules, roles)
		if err != nil {
			t.Fatal(err)
		}
		if idle.Seconds != int64(of.Idle/time.Second) || absolute.Seconds != int64(of.Absolute/time.Second) || sessions.Count != of.Sessions || sessions.OnLimit != string(of.OnLimit) {
			t.Fatalf("%+v %v: %v %v %v, want %+v", rules, roles, idle, absolute, sessions, of)
		}
		builtIn := session.Lifetimes{}.Of(nil)
		says := func(e origin, line func(SessionRule) bool, builtIn bool) {
			r, found := at[e.From]
			named := e.Role == "" && len(r.Roles) == 0 || slices.Contains(roles, e.Role) && slices.Contains(r.Roles, e.Role)
			if found && !(named && line(r)) || !found && (e.From != fromDefault || !builtIn) {
				t.Fatalf("%+v %v: %+v does not come from there", rules, roles, e)
			}
		}
		says(idle.origin, func(r SessionRule) bool {
			return time.Duration(r.Idle) == of.Idle || time.Duration(r.Absolute) == of.Idle
		}, of.Idle == builtIn.Idle)
		says(absolute.origin, func(r SessionRule) bool { return time.Duration(r.Absolute) == of.Absolute }, of.Absolute == builtIn.Absolute)
		says(sessions.origin, func(r SessionRule) bool {
			return r.Sessions == of.Sessions && r.OnLimit == string(of.OnLimit)
		}, of.Sessions == 0)
	}
}

// TestExplainCommand: against a Caddyfile as an operator has it, whose secrets are not there.
func TestExplainCommand(t *testing.T) {
	b := newBench(t)
	text := strings.Replace(b.file("", "app.test {\n\tanteroom {\n\t\tallow role doctor\n\t\ton_store_loss running_sessions 10m\n\t}\n\trespond ok\n}\nother.test {\n\tanteroom {\n\t\tallow role patient\n\t}\n\trespond ok\n}\n"),
		"\t\tsession {\n\t\t\tidle 15m\n\t\t}\n", "\t\tsession {\n\t\t\tidle 20m\n\t\t}\n\t\tsession role doctor idle 10m sessions 1 move\n\t\tportal other.test\n", 1)
	text = strings.ReplaceAll(text, b.dir+"/secret", b.dir+"/no-such-secret")
	lines := strings.Split(text, "\n")
	line := func(part string) string {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, part) })
		return fmt.Sprintf("Caddyfile:%d", i+1)
	}
	next := func(part string) string { // the `anteroom` line of a site
		i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, part) })
		return fmt.Sprintf("Caddyfile:%d", i+2)
	}
	file := b.write(t, "Caddyfile", text)
	run := func(args ...string) (string, error) {
		c := new(cobra.Command)
		explainCommand(c)
		return command(t, c, append([]string{"--config", file}, args...)...)
	}
	out, err := run("--roles", "doctor,patient,astronaut")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"A session of doctor, patient, astronaut:",
		"idle 10m " + line("session role doctor") + ", role doctor",
		"absolute 12h default",
		"sessions 1, then move " + line("session role doctor") + ", role doctor",
		"app.test " + next("app.test {") + " running sessions go on for 10m other.test",
		"other.test " + next("other.test {") + " nobody is let in other.test",
		"Warning: no way to sign in gives the role astronaut; known are doctor, patient.",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	out, err = run("--json")
	var e explanation
	if err != nil || json.Unmarshal([]byte(out), &e) != nil {
		t.Fatalf("--json: %s %v", out, err)
	}
	if e.Idle.Seconds != 1200 || e.Idle.From != line("session {") || e.Sessions.Count != 0 || len(e.Sites) != 2 || e.Sites[0].Seconds != 600 ||
		e.Sites[0].OnStoreLoss != lossRunning || e.Sites[1].OnStoreLoss != lossDeny || e.Sites[0].Portal != "other.test" || len(e.Warnings) != 0 || strings.Contains(out, "null") {
		t.Errorf("--json: %s", out)
	}
	if _, err := run("--roles", "doc tor"); err == nil || !strings.Contains(err.Error(), `role "doc tor"`) {
		t.Errorf("a name that no role has: %v", err)
	}
	without := b.write(t, "without", "app.test {\n\trespond ok\n}\n")
	if _, err := run("--config", without, "--adapter", "caddyfile"); err == nil || !strings.Contains(err.Error(), "no global option `anteroom`") {
		t.Errorf("without anteroom: %v", err)
	}
}
