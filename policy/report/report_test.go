package report

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what comes out:\n%s", path, got)
	}
}

// words splits a line as a Caddyfile does, with one word in backquotes.
func wordsOf(line string) (list []string) {
	before, text, quoted := strings.Cut(line, "`")
	list = strings.Fields(before)
	if quoted {
		text, after, _ := strings.Cut(text, "`")
		list = append(append(list, text), strings.Fields(after)...)
	}
	return list
}

// lines makes the lines of a policy, which stand below each other.
func linesFrom(text string) (lines []policy.Line) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if w := wordsOf(line); len(w) > 0 {
			lines = append(lines, policy.Line{Words: w, At: fmt.Sprint("Caddyfile:", i+1)})
		}
	}
	return lines
}

var networks = map[string][]netip.Prefix{"wards": {netip.MustParsePrefix("10.1.0.0/16")}}

// site makes one of the lines of a text.
func site(t testing.TB, text string, change ...func(*policy.Config)) *Site {
	t.Helper()
	c := policy.Config{Lines: linesFrom(text), Networks: networks}
	for _, f := range change {
		f(&c)
	}
	p, err := policy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return NewSite([]string{"app.test"}, "Caddyfile:9", p, c)
}

// hospital has one of everything.
const hospital = "allow role doctor /patients/**\n" +
	"allow role patient GET /patients/{user}/**\n" +
	"allow public GET /status\n" +
	"allow role nurse group ward7 GET /beds/*\n" +
	"allow role finance /bills/** network wards\n" +
	"allow role auditor GET /audit hours mon-fri 07:00-19:00 Europe/Brussels\n" +
	"deny any DELETE\n" +
	"deny user mallory /patients/**\n" +
	"require acr mfa /patients/*/orders/**\n" +
	"require max_age 5m POST /bills/pay\n" +
	"break_glass role nurse GET on /patients/{patient}/** for 30m\n" +
	"allow role lab GET /lab/{claim.lab}/*\n" +
	"allow role lab GET /lab/open/* when `claim.lab == \"7\"`\n" +
	"allow scope patient/Observation.rs GET /fhir/Observation\n" +
	"allow public GET /news network wards\n" +
	"require acr mfa /news\n" +
	"deny role Finance /bills/closed\n" +
	"shadow deny role doctor /patients/*/psychiatry/**\n"

// cellOf looks up one cell.
func cellOf(t *testing.T, m Matrix, who, route, method string) Cell {
	t.Helper()
	i := slices.IndexFunc(m.Actors, func(a Actor) bool { return a.Name == who })
	if i < 0 {
		t.Fatalf("nobody is called %q: %v", who, m.Actors)
	}
	for _, r := range m.Rows {
		if r.Route == route && slices.Contains(r.Methods, method) {
			return r.Cells[i]
		}
	}
	t.Fatalf("there is no %s %s", method, route)
	return Cell{}
}

// TestMatrixCells: each kind of cell stands where the lines make it so, with its note.
func TestMatrixCells(t *testing.T) {
	m := NewMatrix(site(t, hospital))
	for _, c := range []struct {
		who, route, method string
		kind               Kind
		note               string
	}{
		{"anonymous", "/status", "GET", Yes, ""},
		{"anonymous", "/status", "HEAD", Yes, ""},
		{"anonymous", "/status", "POST", SignIn, ""},
		{"anonymous", "/patients/**", "GET", SignIn, ""},
		{"anonymous", "/**", "GET", SignIn, ""},
		{"signed in, no role", "/patients/**", "GET", No, ""},
		{"doctor", "/patients/**", "GET", Yes, ""},
		{"doctor", "/patients/**", "DELETE", No, ""},
		{"doctor", "/**", "GET", No, ""},
		{"patient", "/patients/{user}/**", "GET", Own, ""},
		{"patient", "/patients/{user}/**", "POST", No, ""},
		{"patient", "/patients/**", "GET", No, ""},
		{"doctor", "/patients/{user}/**", "GET", Yes, ""},
		{"doctor", "/patients/*/orders/**", "GET", StepUp, "acr mfa"},
		{"doctor", "/patients/*/orders/**", "DELETE", No, ""},
		{"nurse", "/beds/*", "GET", No, ""},
		{"nurse + group ward7", "/beds/*", "GET", Yes, ""},
		{"finance", "/bills/**", "GET", Conditional, "network wards=10.1.0.0/16"},
		{"finance", "/bills/pay", "POST", Conditional, "max_age 5m; and network wards=10.1.0.0/16"},
		{"auditor", "/audit", "GET", Conditional, "hours mon-fri 07:00-19:00 Europe/Brussels"},
		{"anonymous", "/news", "GET", SignIn, ""}, // nobody's sign-in has a level, wherever it comes from
		{"doctor", "/news", "GET", Conditional, "acr mfa; and network wards=10.1.0.0/16"},
		{"finance", "/bills/closed", "GET", No, ""}, // a deny folds case
		{"lab", "/lab/{claim.lab}/*", "GET", Own, ""},
		{"doctor", "/lab/{claim.lab}/*", "GET", No, ""},
		{"lab", "/lab/open/*", "GET", Conditional, "when claim.lab == \"7\""},
		{"scope patient/Observation.rs", "/fhir/Observation", "GET", Conditional, "what the token is for"},
		{"scope patient/Observation.rs", "/status", "GET", Yes, ""},
		{"scope patient/Observation.rs", "/patients/**", "GET", No, ""},
		{"doctor", "/fhir/Observation", "GET", No, ""},
		{"user mallory", "/patients/**", "GET", No, ""},
		{"nurse", "/patients/**", "GET", Emergency, "for 30m"},
		{"nurse", "/patients/{patient}/**", "GET", Emergency, "for 30m"},
		{"nurse", "/patients/{patient}/**", "POST", No, ""},
		{"doctor", "/patients/*/psychiatry/**", "GET", Yes, ""}, // a shadow line decides nothing
	} {
		if got := cellOf(t, m, c.who, c.route, c.method); got.Kind != c.kind || got.Note != c.note {
			t.Errorf("%s %s %s: %+v, want %s %q", c.who, c.method, c.route, got, c.kind, c.note)
		}
	}
}

// TestMatrixTellsTheTruth: a yes is allowed and a no denied by the policy itself, whatever address, hour and sign-in a request has; and
// of what depends on something both happen, among all samples.
func TestMatrixTellsTheTruth(t *testing.T) {
	s := site(t, hospital)
	m := newMade(s)
	people, _ := actors(m, s)
	all := samples(s)
	both := 0
	for _, route := range routes(s) {
		for _, method := range methods(s) {
			for _, a := range people {
				cell := s.cell(m, route, method, a)
				allowed, denied := 0, 0
				for _, sample := range all {
					if s.allows(m.concrete(route, a.Who, true), method, a.Who, sample) {
						allowed++
					} else {
						denied++
					}
				}
				kind := cell.Kind
				if kind == Own && cell.Note != "" {
					kind = Conditional // one's own, and not always
				}
				switch kind {
				case Yes, Own:
					if denied > 0 {
						t.Errorf("%s %s %s is %s, and %d samples are denied", a.Name, method, route, cell.Kind, denied)
					}
				case No, SignIn, Emergency:
					if allowed > 0 {
						t.Errorf("%s %s %s is %s, and %d samples are allowed", a.Name, method, route, cell.Kind, allowed)
					}
				default:
					if strings.HasPrefix(cell.Note, "when ") || cell.Note == "what the token is for" {
						continue // no sample has claims or a query
					}
					both++
					if allowed == 0 || denied == 0 {
						t.Errorf("%s %s %s is %s (%s), and %d samples are allowed, %d denied", a.Name, method, route, cell.Kind, cell.Note, allowed, denied)
					}
				}
			}
		}
	}
	if both == 0 {
		t.Error("nothing depends on anything")
	}
}

// TestMatrixGolden: what a person sees.
func TestMatrixGolden(t *testing.T) {
	matrices := []Matrix{NewMatrix(site(t, hospital))}
	var table, csv, html bytes.Buffer
	if err := matrices[0].Table(&table); err != nil {
		t.Fatal(err)
	}
	golden(t, "matrix.txt", table.Bytes())
	if err := WriteCSV(&csv, matrices); err != nil {
		t.Fatal(err)
	}
	golden(t, "matrix.csv", csv.Bytes())
	page := Page{Config: "Caddyfile", Sums: [][2]string{{"Caddyfile", strings.Repeat("0123456789abcdef", 4)}}, Made: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), By: "anteroom v0"}
	if err := WriteHTML(&html, matrices, page); err != nil {
		t.Fatal(err)
	}
	golden(t, "matrix.html", html.Bytes())
}
