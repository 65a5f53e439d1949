package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// record makes a line of the audit log of pairs.
func recordOf(pairs ...string) string {
	var b strings.Builder
	b.WriteString(`{"seq":1,"time":"2026-11-23T08:00:00.000Z","prev":"x","kind":"request","ref":"ABCDEFGHJK","site":"app.test"`)
	for i := 0; i < len(pairs); i += 2 {
		value := pairs[i+1]
		if !strings.HasPrefix(value, "[") {
			value = `"` + value + `"`
		}
		fmt.Fprintf(&b, ",%q:%s", pairs[i], value)
	}
	return b.String() + "}\n"
}

func replayText(t *testing.T, text string, sites ...*Site) Result {
	t.Helper()
	r := NewReplay(sites)
	if err := r.Read(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return r.Result()
}

// TestReplayDecides: each kind of record comes out as what the lines make of it, and what the log does not hold is not guessed.
func TestReplayDecides(t *testing.T) {
	s := site(t, hospital+"allow role lab /lab/{claim.lab}\nallow role chief group chiefs /chiefs\nallow any /when/{id} when `path.id == \"7\"`\nallow any /query when `request.query == \"\"`\n"+
		"allow role tester /deep/*/secret\ndeny role tester /deep/admin/**\nallow scope launch GET /fhir/*\nallow idp lab /idp\nallow role late /late\nrequire max_age 5m /late\nrequire device known /known\nallow role late /known\nallow role lab /{claim.lab}/three")
	doctor := []string{"name", "dana", "source", "idp", "roles", `["doctor"]`}
	with := func(who []string, pairs ...string) string { return recordOf(append(slices.Clone(who), pairs...)...) }
	is := func(role string) []string {
		return []string{"name", "ann", "source", "idp", "roles", `["` + role + `"]`}
	}
	allowed, denied := []string{"decision", "allowed", "reason", "allowed"}, []string{"decision", "denied", "reason", "no-rule"}
	at := func(d []string, pairs ...string) []string { return append(slices.Clone(d), pairs...) }
	for name, c := range map[string]struct {
		line string
		want Outcome
		why  string
	}{
		"as then":                      {with(doctor, at(allowed, "method", "GET", "path", "/patients/*")...), Same, ""},
		"nobody, as then":              {recordOf("decision", "denied", "reason", "no-session", "method", "GET", "path", "/patients/*"), Same, ""},
		"nobody, a public route":       {recordOf("decision", "denied", "reason", "no-session", "method", "GET", "path", "/status"), WouldAllow, "allow public GET /status (Caddyfile:3)"},
		"denied now":                   {with(doctor, at(allowed, "method", "DELETE", "path", "/patients/*")...), WouldDeny, "deny any DELETE (Caddyfile:7)"},
		"no line now":                  {with(doctor, at(allowed, "method", "GET", "path", "/else")...), WouldDeny, "no line allows it"},
		"allowed now":                  {with(doctor, at(denied, "method", "GET", "path", "/patients/*")...), WouldAllow, "allow role doctor /patients/** (Caddyfile:1)"},
		"one's own":                    {with(is("patient"), at(allowed, "method", "GET", "path", "/patients/{user}/x")...), Same, ""},
		"somebody else's":              {with(is("patient"), at(allowed, "method", "GET", "path", "/patients/*/x")...), WouldDeny, "no line allows it"},
		"longer than its shape":        {with(is("patient"), at(allowed, "method", "GET", "path", "/patients/*/**")...), CannotTell, lacksMuch},
		"a name, perhaps a forbidden":  {with(is("tester"), at(allowed, "method", "GET", "path", "/deep/*/secret")...), CannotTell, lacksNames},
		"a level that was shown":       {with(doctor, at(allowed, "method", "GET", "path", "/patients/*/orders", "acr", "mfa")...), Same, ""},
		"a level that was not":         {with(doctor, at(allowed, "method", "GET", "path", "/patients/*/orders")...), WouldDeny, "require acr mfa /patients/*/orders/** (Caddyfile:9)"},
		"an old record":                {with(doctor, at(allowed, "method", "GET", "route", "/patients/**")...), CannotTell, lacksPath},
		"an old record of one path":    {recordOf(at(allowed, "method", "GET", "route", "/status")...), Same, ""},
		"within hours":                 {with(is("auditor"), at(denied, "method", "GET", "path", "/audit")...), WouldAllow, "allow role auditor GET /audit hours mon-fri 07:00-19:00 Europe/Brussels (Caddyfile:6)"},
		"within the network":           {with(is("finance"), at(denied, "method", "GET", "path", "/bills/pay", "client", "10.1.2.3")...), WouldAllow, "allow role finance /bills/** network wards (Caddyfile:5)"},
		"outside of it":                {with(is("finance"), at(denied, "method", "GET", "path", "/bills/pay", "client", "192.0.2.1")...), Same, ""},
		"from an address not recorded": {with(is("finance"), at(denied, "method", "GET", "path", "/bills/pay", "client", "?")...), CannotTell, ""},
		"a claim":                      {with(is("lab"), at(allowed, "method", "GET", "path", "/lab/*")...), CannotTell, ""},
		"a claim at another place":     {with(is("lab"), at(allowed, "method", "GET", "path", "/*/three")...), CannotTell, ""},
		"a group":                      {with(is("chief"), at(allowed, "method", "GET", "path", "/chiefs")...), CannotTell, ""},
		"a variable in a when":         {with(is("x"), at(allowed, "method", "GET", "path", "/when/*")...), CannotTell, ""},
		"a query in a when":            {with(is("x"), at(allowed, "method", "GET", "path", "/query")...), CannotTell, ""},
		"an age":                       {with(is("late"), at(allowed, "method", "GET", "path", "/late")...), CannotTell, ""},
		"a device":                     {with(is("late"), at(allowed, "method", "GET", "path", "/known")...), CannotTell, ""},
		"the way to sign in":           {with([]string{"name", "ann", "source", "lab"}, at(denied, "method", "GET", "path", "/idp")...), WouldAllow, "allow idp lab /idp (Caddyfile:26)"},
		"an application":               {recordOf(at(allowed, "method", "GET", "path", "/fhir/*", "client_id", "heart", "scopes", `["launch"]`)...), Same, ""},
		"an application with less":     {recordOf(at(allowed, "method", "GET", "path", "/fhir/*", "client_id", "heart", "scopes", `["openid"]`)...), WouldDeny, ""},
		"a token is nobody's presence": {with(doctor, at(allowed, "method", "GET", "path", "/patients/*", "client_id", "heart")...), WouldDeny, ""},
		"broken glass":                 {with(is("nurse"), at(allowed, "method", "GET", "path", "/patients/*/x", "emergency", "4F9K2M7QXR")...), Same, ""},
		"broken glass of others":       {with(is("finance"), at(allowed, "method", "GET", "path", "/patients/*/x", "emergency", "4F9K2M7QXR")...), WouldDeny, ""},
		"roles that were cut":          {recordOf(at(allowed, "name", "ann", "roles", `["doctor","…"]`, "method", "GET", "path", "/patients/*")...), CannotTell, lacksPart},
		"a path that was cut":          {with(doctor, at(allowed, "method", "GET", "path", "/patients/aaaa…")...), CannotTell, lacksPart},
		"too many unknown":             {with(is("tester"), at(allowed, "method", "GET", "path", strings.Repeat("/*", 40))...), CannotTell, lacksMuch},
		"another port":                 {strings.Replace(with(doctor, at(allowed, "method", "GET", "path", "/patients/*")...), `"app.test"`, `"APP.test:8443"`, 1), Same, ""},
	} {
		got := replayText(t, c.line, s)
		counts := map[Outcome]int{Same: got.Same, WouldAllow: got.WouldAllow, WouldDeny: got.WouldDeny, CannotTell: got.CannotTell}
		if counts[c.want] != 1 || got.Requests != 1 {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
			continue
		}
		if c.why != "" && (len(got.Groups) != 1 || got.Groups[0].Why != c.why) {
			t.Errorf("%s: %+v, want %q", name, got.Groups, c.why)
		}
		if c.want != Same && (len(got.Groups) != 1 || got.Groups[0].Count != 1 || got.Groups[0].Examples[0].Ref != "ABCDEFGHJK") {
			t.Errorf("%s: %+v", name, got.Groups)
		}
	}
}

// TestReplayCountsOthers: records that no policy decided, of other sites and other kinds are told apart, and none is lost.
func TestReplayCountsOthers(t *testing.T) {
	text := strings.Replace(recordOf("decision", "allowed"), `"request"`, `"sign-in"`, 1) + // no decision about a request
		strings.Replace(recordOf("decision", "ended"), `"request"`, `"stream"`, 1) +
		recordOf("decision", "denied", "reason", "cross-origin", "method", "POST", "path", "/status") + // refused before the rules
		recordOf("decision", "failed", "reason", "application", "method", "GET") +
		strings.Replace(recordOf("decision", "denied", "reason", "no-session"), `"ref"`, `"count":7,"ref"`, 1) + // seven at once, without a path
		strings.Replace(recordOf("decision", "allowed", "method", "GET", "path", "/"), "app.test", "else.test", 1)
	got := replayText(t, text, site(t, hospital))
	if got.Lines != 6 || got.Others != 5 || got.Foreign != 1 || got.Requests != 0 || got.Unreadable != 0 {
		t.Errorf("%+v", got)
	}
}

// TestReplayHostileLines: torn, endless and forged lines are counted, act on no terminal, and stop nothing.
func TestReplayHostileLines(t *testing.T) {
	good := recordOf("decision", "allowed", "method", "GET", "path", "/status")
	hostile := []string{
		"{\"seq\":1,\"ti\n", "\n", "null\n", "[]\n", "42\n", "{}\n", "\"x\"\n", strings.Repeat("[", 20_000) + "\n", "\x00\xff\xfe\n", "{\"kind\":7}\n",
		`{"kind":"request","roles":"doctor"}` + "\n", strings.Repeat("a", 3*maxRecord) + "\n", strings.Repeat("b", maxRecord-1) + "\n",
	}
	got := replayText(t, good+strings.Join(hostile, good)+good+`{"kind":"request","torn":`, site(t, hospital))
	if got.Same != len(hostile)+1 || got.Unreadable != len(hostile)+1 {
		t.Errorf("%d good lines and %d others: %+v", len(hostile)+1, len(hostile)+1, got)
	}
	evil := `","x":"\u001b]0;owned\u0007\u202e`
	text := recordOf("decision", "allowed", "method", "GET", "path", "/patients/*", "name", `a\u001b[31m\nOPENED\u202e`, "rule", "\\u001b"+evil)
	var out bytes.Buffer
	if err := replayText(t, text, site(t, hospital)).Write(&out); err != nil || strings.ContainsAny(out.String(), "\x1b\x07\u202e") || strings.Contains(out.String(), "\nOPENED") {
		t.Errorf("%q %v", out.String(), err)
	}
	for _, path := range []string{"patients", "*", "/../x", "//", "/%zz", "/\u0000", "/a;b", "{user}", "/{user}", "/{user}x", strings.Repeat("/*", 300)} {
		got := replayText(t, recordOf("decision", "allowed", "method", "GET", "name", "a/../b", "path", path), site(t, hospital))
		if got.Requests+got.Unreadable != 1 {
			t.Errorf("%q: %+v", path, got)
		}
	}
}

// endless is a log without an end.
type endless struct {
	line []byte
	left int
	i    int
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		if e.left == 0 {
			return n, io.EOF
		}
		c := copy(b[n:], e.line[e.i:])
		n += c
		if e.i += c; e.i == len(e.line) {
			e.i = 0
			e.left--
		}
	}
	return n, nil
}

// TestReplayMemory: a long log with a long hostile line in each record takes no more memory than a short one.
func TestReplayMemory(t *testing.T) {
	text := recordOf("decision", "allowed", "method", "GET", "path", "/else", "name", strings.Repeat("x", 1000)) + strings.Repeat("y", 2*maxRecord) + "\n"
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := NewReplay([]*Site{site(t, hospital)})
	if err := r.Read(&endless{line: []byte(text), left: 300}); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := r.Result(); got.WouldDeny != 300 || got.Unreadable != 300 || len(got.Groups) != 1 || len(got.Groups[0].Examples) != maxExamples {
		t.Errorf("%+v", got)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("it keeps %d bytes of 75 MB", grown)
	}
}

// TestReplayReader: a failing disk is an error, not the end of the log.
func TestReplayReader(t *testing.T) {
	r := NewReplay([]*Site{site(t, hospital)})
	if err := r.Read(iotest.ErrReader(errors.ErrUnsupported)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if err := r.Read(iotest.OneByteReader(strings.NewReader(recordOf("decision", "allowed", "method", "GET", "path", "/status")))); err != nil || r.Result().Same != 1 {
		t.Errorf("%v %+v", err, r.Result())
	}
}
