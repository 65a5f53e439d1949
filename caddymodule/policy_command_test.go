package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/policy/report"
	"github.com/spf13/cobra"
)

// policyLines are the lines of the site of most tests.
const policyLines = `allow role doctor
		allow role patient GET /patients/{user}/**
		allow public GET /status
		deny any DELETE
		require acr mfa /orders/**
		budget role doctor 60 distinct {patient} per 1h alarm 30 on /patients/{patient}/**
		break_glass role patient GET on /letters/{id}/** for 30m
		shadow deny role doctor /psychiatry/**
		expect doctor GET /patients/7 allow
		expect anonymous GET /patients/7 login`

// policySite is a site with these lines.
func policySite(host, lines string) string {
	return host + " {\n\tanteroom {\n\t\t" + lines + "\n\t}\n\trespond ok\n}\n"
}

// lineOf finds the place of a line in a Caddyfile.
func lineOf(t *testing.T, text, part string) string {
	t.Helper()
	before, _, ok := strings.Cut(text, part)
	if !ok {
		t.Fatalf("%q is not in the file", part)
	}
	return "Caddyfile:" + strconv.Itoa(strings.Count(before, "\n")+1)
}

// policyRig is a Caddyfile in a folder of its own; the secret that it names does not exist.
func policyRig(t *testing.T, sites string) (file, text string) {
	t.Helper()
	b := newBench(t)
	text = strings.ReplaceAll(b.file("", sites), b.dir+"/secret", b.dir+"/no-such-secret")
	return b.write(t, "Caddyfile", text), text
}

// runPolicy runs a subcommand and returns what it prints.
func runPolicy(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	commands := map[string]func() *cobra.Command{
		"explain": policyExplainCommand, "matrix": policyMatrixCommand, "test": policyTestCommand, "diff": policyDiffCommand, "replay": policyReplayCommand,
	}
	return command(t, commands[name](), args...)
}

// squeeze makes one blank of several.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// TestPolicyExplain: decision, line, place and all that goes with it, for each kind of answer.
func TestPolicyExplain(t *testing.T) {
	file, text := policyRig(t, policySite("app.test", policyLines))
	at := func(part string) string { return lineOf(t, text, part) }
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"allowed": {[]string{"--as", "doctor", "GET", "https://app.test/patients/7?x=1#y"}, []string{
			"ALLOWED: a line allows it", "request GET https://app.test/patients/7", "decided by allow role doctor (" + at("allow role doctor") + ")",
			`budget counts "7", 60 in 1h, then deny: budget role doctor`, "session idle 15m (" + at("session {") + "), absolute 12h (default), any number at once (default)",
			"Lines with this path and method: allow role doctor (" + at("allow role doctor") + ") holds", "shadow lines would allow it, too"}},
		"a path is enough":              {[]string{"--as", "doctor", "GET", "/patients/7"}, []string{"ALLOWED", "https://app.test/patients/7"}},
		"denied by a line":              {[]string{"--as", "doctor:dana", "DELETE", "/x"}, []string{"DENIED: a line denies it", "who dana as doctor", "decided by deny any DELETE (" + at("deny any") + ")", "emergency not possible"}},
		"nobody":                        {[]string{"GET", "/patients/7"}, []string{"SIGN-IN: nobody is signed in", "decided by no line"}},
		"one's own":                     {[]string{"--as", "patient:ann", "GET", "/patients/ann/x"}, []string{"ALLOWED", "/patients/{user}/**"}},
		"another's":                     {[]string{"--as", "patient:ann", "GET", "/patients/bob/x"}, []string{"DENIED: no line allows it", "decided by no line"}},
		"step-up":                       {[]string{"--as", "doctor", "POST", "/orders/1"}, []string{"STEP-UP", "step-up a new sign-in with acr mfa", "decided by require acr mfa /orders/** (" + at("require acr") + ")"}},
		"with the level":                {[]string{"--as", "doctor", "--acr", "mfa", "POST", "/orders/1"}, []string{"ALLOWED"}},
		"emergency":                     {[]string{"--as", "patient:ann", "GET", "/letters/9/page"}, []string{"DENIED", "emergency possible for /letters/9, for 30m: break_glass role patient GET on /letters/{id}/** for 30m"}},
		"what a shadow denies":          {[]string{"--as", "doctor", "GET", "/psychiatry/1"}, []string{"ALLOWED", "shadow lines would deny it: shadow deny role doctor /psychiatry/** (" + at("shadow deny") + ")"}},
		"an ambiguous path":             {[]string{"--as", "doctor", "GET", "https://app.test/a/../status"}, []string{"DENIED: the path can be read in two ways", "400, whoever asks", "/a/../status"}},
		"a role nobody gets":            {[]string{"--as", "astronaut", "GET", "/x"}, []string{"DENIED", "Warning: no way to sign in gives the role astronaut; known are doctor, patient."}},
		"our own start page":            {[]string{"--as", "doctor", "GET", "/.anteroom"}, []string{"anteroom's own pages"}},
		"our pages, in capital letters": {[]string{"--as", "doctor", "GET", "/.ANTEROOM/x"}, []string{"DENIED", "400, whoever asks"}},
		"our pages, by an escape":       {[]string{"--as", "doctor", "GET", "/%2eanteroom/x"}, []string{"DENIED", "400, whoever asks"}},
		"beside our pages":              {[]string{"--as", "doctor", "GET", "/.anteroomx"}, []string{"ALLOWED"}},
		"our own pages":                 {[]string{"--as", "doctor", "GET", "/.anteroom/login"}, []string{"anteroom's own pages"}},
		"a method unknown":              {[]string{"--as", "doctor", "BREW", "/x"}, []string{"DENIED: the policy does not know the method"}},
		"a token":                       {[]string{"--as", "any", "--scope", "openid", "GET", "/x"}, []string{"DENIED", "by an access token"}},
		"the time":                      {[]string{"--as", "doctor", "--at", "2026-11-23T08:00 Europe/Brussels", "GET", "/x"}, []string{"when Mon 2026-11-23 08:00:00 CET"}},
	} {
		out, err := runPolicy(t, "explain", append([]string{"--config", file}, c.args...)...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(squeeze(out), squeeze(want)) {
				t.Errorf("%s: %q is missing in\n%s", name, want, out)
			}
		}
	}
	out, err := runPolicy(t, "explain", "--config", file, "--json", "--as", "patient:ann", "GET", "/letters/9/page")
	var e explainedDecision
	if err != nil || json.Unmarshal([]byte(out), &e) != nil || e.Allowed || e.Emergency == nil || e.Emergency.Seconds != 1800 || e.Emergency.Scope != "/letters/9" || e.Session.Idle.Seconds != 900 || len(e.Lines) == 0 {
		t.Errorf("--json: %s %v", out, err)
	}
}

// TestPolicyExplainRefuses: what is mistyped is an error that says what to write, and never an answer about something else.
func TestPolicyExplainRefuses(t *testing.T) {
	file, _ := policyRig(t, policySite("app.test", policyLines)+policySite("other.test", "allow role doctor"))
	for want, args := range map[string][]string{
		"write the whole address":        {"--as", "doctor", "GET", "/x"},
		"there are app.test, other.test": {"--as", "doctor", "GET", "https://else.test/x"},
		"is no address":                  {"--as", "doctor", "GET", "http://app.test/x"},
		"is no method":                   {"--as", "doctor", "get", "https://app.test/x"},
		"\"tor\" is nothing that comes":  {"--as", "doc tor", "GET", "https://app.test/x"},
		"\"\" cannot be a user":          {"--as", "doctor:", "GET", "https://app.test/x"},
		"\"10.1\" is no address":         {"--as", "doctor", "--from", "10.1", "GET", "https://app.test/x"},
		"it names no time zone":          {"--as", "doctor", "--at", "08:00", "GET", "https://app.test/x"},
		"nothing after `claim.x`":        {"--as", "doctor", "--claim", "x", "GET", "https://app.test/x"},
		"nothing that a device is":       {"--as", "doctor", "--device", "yes", "GET", "https://app.test/x"},
		"nobody is signed in who has":    {"--acr", "mfa", "GET", "https://app.test/x"},
		"accepts 2 arg":                  {"--as", "doctor", "GET"},
	} {
		if out, err := runPolicy(t, "explain", append([]string{"--config", file}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %q is missing in %v\n%s", args, want, err, out)
		}
	}
	// Two names for one place, of which only one is the site's.
	if out, err := runPolicy(t, "explain", "--config", file, "--as", "doctor", "GET", "https://app.test@other.test/x"); err != nil || !strings.Contains(out, "https://other.test/x") {
		t.Errorf("an address with a name before the host: %s %v", out, err)
	}
}

// TestPolicyBrokenConfig: each command says all that is wrong with the lines, with their places, and nothing else is done.
func TestPolicyBrokenConfig(t *testing.T) {
	file, text := policyRig(t, policySite("app.test", "allow role doctor /x/**/y\n\t\tallow rolle doctor")+policySite("other.test", "deny any"))
	for name, args := range map[string][]string{"explain": {"GET", "/x"}, "matrix": nil, "test": nil, "replay": {file}} {
		_, err := runPolicy(t, name, append([]string{"--config", file}, args...)...)
		for _, want := range []string{lineOf(t, text, "allow role doctor /x"), lineOf(t, text, "allow rolle"), "no line allows anything"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is missing in %v", name, want, err)
			}
		}
	}
}

// TestPolicyTest: what holds is counted, what does not is printed with the line that decided, and the exit code says so.
func TestPolicyTest(t *testing.T) {
	file, _ := policyRig(t, policySite("app.test", policyLines)+policySite("other.test", "allow role doctor"))
	out, err := runPolicy(t, "test", "--config", file)
	if err != nil || !strings.Contains(out, "Expectations: 2 hold, 0 do not.") || !strings.Contains(out, "Warning: other.test has no `expect` line") || strings.Contains(out, "Warning: app.test") {
		t.Errorf("%s %v", out, err)
	}
	file, text := policyRig(t, policySite("app.test", policyLines+"\n\t\texpect patient:ann GET /patients/ann/x deny\n\t\texpect doctor GET"))
	out, err = runPolicy(t, "test", "--config", file)
	if err == nil || !strings.Contains(err.Error(), "not do what is expected") || !strings.Contains(out, "2 hold, 2 do not") ||
		!strings.Contains(out, "FAILS app.test: "+lineOf(t, text, "expect patient:ann")) || !strings.Contains(out, "allow role patient GET /patients/{user}/**") || !strings.Contains(out, lineOf(t, text, "expect doctor GET\n")) {
		t.Errorf("%s %v", out, err)
	}
	var all struct{ Sites []expectations }
	if out, err := runPolicy(t, "test", "--json", "--config", file); err == nil || json.Unmarshal([]byte(out), &all) != nil || len(all.Sites) != 1 || all.Sites[0].Hold != 2 || len(all.Sites[0].Failures) != 2 {
		t.Errorf("%s %v", out, err)
	}
}

// TestPolicyMatrixCommand: the table, one site of several, the files, and JSON.
func TestPolicyMatrixCommand(t *testing.T) {
	file, text := policyRig(t, policySite("app.test", policyLines)+policySite("other.test", "allow role doctor"))
	out, err := runPolicy(t, "matrix", "--config", file)
	if err != nil || !strings.Contains(out, "app.test (Caddyfile:") || !strings.Contains(out, "other.test (Caddyfile:") || !strings.Contains(out, "ROUTE") || !strings.Contains(out, "/patients/{user}/**") {
		t.Errorf("%s %v", out, err)
	}
	if out, err := runPolicy(t, "matrix", "--config", file, "--site", "other.test"); err != nil || strings.Contains(out, "app.test") {
		t.Errorf("%s %v", out, err)
	}
	if _, err := runPolicy(t, "matrix", "--config", file, "--site", "else.test"); err == nil || !strings.Contains(err.Error(), "there are app.test, other.test") {
		t.Errorf("%v", err)
	}
	page := filepath.Join(filepath.Dir(file), "matrix.html")
	if _, err := runPolicy(t, "matrix", "--config", file, "--html", page, "--date", "2026-11-22"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(page)
	for _, want := range []string{"22 November 2026", "<caption>", lineOf(t, text, "deny any"), "SHA-256 of Caddyfile", "the adapted config"} {
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%q is not on the page: %v", want, err)
		}
	}
	if info, err := os.Stat(page); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".anteroom-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if out, err := runPolicy(t, "matrix", "--config", file, "--csv", "-"); err != nil || !strings.HasPrefix(out, "site,who,route,example,method,decision,depends on,rule\r\n") {
		t.Errorf("%s %v", out, err)
	}
	var all struct{ Sites []report.Matrix }
	if out, err := runPolicy(t, "matrix", "--config", file, "--json"); err != nil || json.Unmarshal([]byte(out), &all) != nil || len(all.Sites) != 2 || len(all.Sites[0].Rows) == 0 || strings.Contains(out, "null") {
		t.Errorf("%s %v", out, err)
	}
	if alone, err := runPolicy(t, "matrix", "--config", file, "--csv"); err != nil || !strings.HasPrefix(alone, "site,who,") {
		t.Errorf("--csv alone: %q, %v", alone, err)
	}
	if _, err := runPolicy(t, "matrix", "--config", file, "matrix.csv"); err == nil {
		t.Error("a file without a format is taken")
	}
	if _, err := runPolicy(t, "matrix", "--config", file, "--csv", "-", "--html", "-"); err == nil {
		t.Error("two formats at once")
	}
	if _, err := runPolicy(t, "matrix", "--config", file, "--html", filepath.Join(file, "x")); err == nil {
		t.Error("a file under a file is written")
	}
}

// TestPolicyDiffCommand: what opens is printed, and the exit code is asked for.
func TestPolicyDiffCommand(t *testing.T) {
	before, _ := policyRig(t, policySite("app.test", policyLines))
	after, _ := policyRig(t, policySite("app.test", strings.Replace(policyLines, "public GET /status", "public GET /status /patients/**", 1)))
	out, err := runPolicy(t, "diff", before, after)
	if err != nil || !strings.Contains(out, "OPENED") || !strings.Contains(out, "anonymous  GET,HEAD /patients/**: sign-in → yes") {
		t.Errorf("%s %v", out, err)
	}
	if _, err := runPolicy(t, "diff", before, after, "--exit-code"); err == nil || !strings.Contains(err.Error(), "opens") {
		t.Errorf("--exit-code: %v", err)
	}
	if out, err := runPolicy(t, "diff", after, before, "--exit-code"); err != nil || !strings.Contains(out, "CLOSED") {
		t.Errorf("the other way round: %s %v", out, err)
	}
	if out, err := runPolicy(t, "diff", before, before, "--exit-code"); err != nil || !strings.HasPrefix(out, "Nothing changes") {
		t.Errorf("the same: %s %v", out, err)
	}
	var c report.Comparison
	if out, err := runPolicy(t, "diff", "--json", before, after); err != nil || json.Unmarshal([]byte(out), &c) != nil || len(c.Changes) == 0 || strings.Contains(out, "null") {
		t.Errorf("--json: %s %v", out, err)
	}
	none, _ := policyRig(t, "app.test {\n\trespond ok\n}\n")
	if _, err := runPolicy(t, "diff", before, none); err == nil || !strings.Contains(err.Error(), "no site of the config has an `anteroom` block") {
		t.Errorf("a config without gates: %v", err)
	}
}

// TestPolicyReplayCommand: records that the audit log itself wrote, of a folder, are decided again.
func TestPolicyReplayCommand(t *testing.T) {
	file, _ := policyRig(t, policySite("app.test", policyLines))
	dir := filepath.Join(filepath.Dir(file), "a[u]dit")
	log, err := audit.Open(audit.Config{Dir: dir, MaxBytes: 300, Now: func() time.Time { return time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	who := audit.Event{Ref: audit.NewRef(), Kind: "request", Source: "idp", Subject: "s", Name: "dana", Roles: []string{"doctor"}, Site: "app.test", Method: "GET", Decision: "allowed", Reason: "allowed", Client: "127.0.0.1"}
	with := func(change func(*audit.Event)) audit.Event {
		e := who
		change(&e)
		return e
	}
	for _, e := range []audit.Event{
		with(func(e *audit.Event) { e.Path = "/patients/*" }),
		with(func(e *audit.Event) { e.Path = "/orders/*"; e.ACR = "mfa" }),
		with(func(e *audit.Event) { e.Path = "/orders/*" }), // the level is required now
		with(func(e *audit.Event) { e.Path = "/x"; e.Method = "DELETE" }),
		with(func(e *audit.Event) { e.Roles = []string{"patient"}; e.Name = "ann"; e.Path = "/patients/{user}/x" }),
		with(func(e *audit.Event) {
			e.Roles = []string{"patient"}
			e.Decision, e.Reason = "denied", "no-rule"
			e.Path = "/status"
		}),
		with(func(e *audit.Event) { e.Path = ""; e.Route = "/patients/**" }),
		with(func(e *audit.Event) { e.Site = "else.test"; e.Path = "/" }),
		{Kind: "sign-in", Ref: audit.NewRef(), Name: "dana", Decision: "allowed"},
	} {
		if err := log.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	parts, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "a?u?dit", "*.jsonl"))
	if len(parts) < 3 {
		t.Fatalf("%d files", len(parts))
	}
	out, err := runPolicy(t, "replay", "--config", file, "--json", dir)
	var r report.Result
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Same != 3 || r.WouldAllow != 1 || r.WouldDeny != 2 || r.CannotTell != 1 || r.Foreign != 1 || r.Others != 1 || r.Unreadable != 0 || r.Lines != 9 {
		t.Errorf("%s %v", out, err)
	}
	out, err = runPolicy(t, "replay", "--config", file, dir)
	for _, want := range []string{"7 requests of the log", "3 as then", "WOULD BE DENIED", "deny any DELETE (Caddyfile:", who.Ref, "DELETE app.test/x", "WOULD BE ALLOWED", "allow public GET /status", "CANNOT TELL", "the record has no path"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q is missing: %v\n%s", want, err, out)
		}
	}
	if _, err := runPolicy(t, "replay", "--config", file, filepath.Dir(dir)); err == nil || !strings.Contains(err.Error(), "has no file audit-") {
		t.Errorf("a folder without a log: %v", err)
	}
	if _, err := runPolicy(t, "replay", "--config", file, dir+"-none"); err == nil {
		t.Error("no such file")
	}
	if got := compareParts("x/audit-2026-11-23-10.jsonl", "x/audit-2026-11-23-2.jsonl"); got <= 0 {
		t.Errorf("part 10 comes before part 2: %d", got)
	}
}

// TestPolicyOpensNothing: no command makes a folder, reads a secret, or leaves a file behind.
func TestPolicyOpensNothing(t *testing.T) {
	file, _ := policyRig(t, policySite("app.test", policyLines))
	for name, args := range map[string][]string{"explain": {"GET", "/x"}, "matrix": nil, "test": nil, "replay": {file}} {
		if _, err := runPolicy(t, name, append([]string{"--config", file}, args...)...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if exists(filepath.Join(filepath.Dir(file), "data", "caddy", "anteroom")) {
		t.Error("a command made the data folder")
	}
}
