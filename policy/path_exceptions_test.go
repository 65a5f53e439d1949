package policy

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

var everyException = Exceptions{EncodedSlash: true, Semicolon: true, EncodedPercent: true, TrailingDot: true}

// switches returns all 16 combinations.
func switches() (all []Exceptions) {
	for i := range 16 {
		all = append(all, Exceptions{EncodedSlash: i&1 > 0, Semicolon: i&2 > 0, EncodedPercent: i&4 > 0, TrailingDot: i&8 > 0})
	}
	return all
}

// raws returns all ways in which a path is read, itself first.
func raws(p Path) []string {
	all := []string{p.raw}
	for _, other := range p.readings() {
		all = append(all, other.raw)
	}
	return all
}

func TestPathReadings(t *testing.T) {
	slash, semi, percent, dots := Exceptions{EncodedSlash: true}, Exceptions{Semicolon: true}, Exceptions{EncodedPercent: true}, Exceptions{TrailingDot: true}
	for _, test := range []struct {
		allow Exceptions
		path  string
		want  []string // the other readings
	}{
		{everyException, "/", nil},
		{everyException, "/a/b.css", nil},
		{everyException, "/a%20b/", nil},
		{slash, "/a%2Fb", []string{"/a/b"}},
		{slash, "/a%2fb%2F", []string{"/a/b/"}},
		{slash, "/%61%2Fb", []string{"/%61/b"}},
		{slash, "/x/group%2Fproject/y", []string{"/x/group/project/y"}},
		{semi, "/a;x=1", []string{"/a"}},
		{semi, "/a;x=1/b", []string{"/a/b", "/a"}},
		{semi, "/a;x;y/b;z", []string{"/a/b", "/a"}},
		{semi, "/a/;x", []string{"/a/"}},
		{semi, "/;x", []string{"/"}},
		{semi, "/%61;%78", []string{"/%61"}},
		{percent, "/100%25", nil},
		{percent, "/100%25/x", nil},
		{percent, "/%25zz", nil},
		{percent, "/%25%20x", nil},
		{percent, "/a%2541", []string{"/a%41"}},
		{percent, "/a%25C3%25A9b", []string{"/a%C3%A9b"}},
		{percent, "/a%2520b", []string{"/a%20b"}},
		{dots, "/Smith%20Jr.", []string{"/Smith%20Jr"}},
		{dots, "/v1./a../b", []string{"/v1/a/b"}},
		{Exceptions{Semicolon: true, TrailingDot: true}, "/a;x.", []string{"/a", "/a;x"}},
		{Exceptions{EncodedSlash: true, Semicolon: true}, "/a%2Fb;x", []string{"/a/b;x", "/a%2Fb", "/a/b"}},
		{Exceptions{EncodedSlash: true, EncodedPercent: true}, "/a%2Fb%2541", []string{"/a%2Fb%41", "/a/b%2541", "/a/b%41"}},
	} {
		p, err := parseReadings(test.path, test.allow)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
		} else if got := raws(p)[1:]; p.String() != test.path || !slices.Equal(got, test.want) {
			t.Errorf("%s is also read as %q, want %q", test.path, got, test.want)
		}
	}
}

// TestPathNeverAccepted holds what no switch lets through: rows P1 to P12 of the request-target table.
func TestPathNeverAccepted(t *testing.T) {
	for _, path := range []string{
		"/public/..%2fadmin", "/public/..%2Fadmin", "/a..%2fb", "/%2e%2e%2fadmin", "/public/%2e%2e/admin", "/x/%2e%2e%2f", "/a%2f..", "/a%2f..%2fb", "/a%2f%2e%2e/b", "/.%2fa",
		"/%252e%252e/admin", "/a%252eb", "/%252e", "/..%252fadmin", "/a%252fb", "/a%255cb", "/a%253bx", "/a%2525", "/%252525", "/a%2500", "/a%250a", "/a%253f", "/a%2523", "/%25%32e", "/%25%32%65", "/%252%65", "/%25u002e", "/%25U002e", "/%25%75002e", "/a%25ff", "/a%25C3", "/%2520a", "/a%2520",
		"/public/..;/admin", "/;/..", "/public;/../admin", "/;/admin", "/a/;x/b", "/.;/a", "/..;x", "/%2e%2e;/a", "/%2e;x", "/a/..;x=1/b", "/a..;/b", "/a.;/b%2e", "/a%3bx", "/a%3Bx", "/a;x%2fy", "/a;%2f..%2fb", "/a;/..",
		"/.", "/..", "/...", "/a/..", "/a/./b", "/..../b", "/a%2e", "/a%2e.", "/a.%2e", "/%2e.", "/a%20.", "/a.%20", "/a .",
		"//", "//a", "/a//b", "/a%2f/b", "/a/%2fb", "/%2fa", "/a%2f%2fb", "/%2f%2fevil.example",
		`/a\b`, "/a%5cb", "/a%5C..%5cb", "/a%00", "/a%0d%0ab", "/a%c2%85", "/%c0%ae%c0%ae/a", "/%c0%af", "/%e0%80%af", "/%ff", "/a%23b", "/a%3fb", "/a#b", "/a?b", "/%", "/%2", "/%zz", "", "*", "a", "http://evil.example/",
	} {
		for _, allow := range switches() {
			if p, err := parseReadings(path, allow); err == nil || p != (Path{}) {
				t.Errorf("%q is accepted with %+v, and read as %q", path, allow, raws(p))
			}
		}
	}
}

// TestOwnPrefixInEveryReading: whoever hides the prefix of our own pages from us must not reach the app's page of that name either.
func TestOwnPrefixInEveryReading(t *testing.T) {
	for _, path := range []string{"/.anteroom%2flogin", "/.anteroom;x", "/.anteroom;x/login", "/.anteroom./login", "/.%2561nteroom/login", "/.ANTEROOM;x%2541"} {
		p, err := parseReadings(path, everyException)
		if err != nil || !p.Under("/.anteroom/") {
			t.Errorf("%q: %v, %q", path, err, raws(p))
		}
	}
}

// pieces of which the random paths are made.
var pieces = []string{"/", "/", "/", "a", "b", "A", ".", ".", "..", "%2F", "%2f", ";", ";x=1", ";", "%25", "%25", "%2541", "%2561", "%252e", "%252f", "%2e", "%2E", "%20", "%61", "%3b", "%5c", "\\", "%00",
	"%c0", "%ae", "%25C3%25A9", "%C3%A9", "%2525", "41", "u0041", "1", "%31", "admin", "public", "%ff", "%E2%84%AA", "?", "#"}

// TestReadingsProperties tries what must hold for every path and every combination of switches.
func TestReadingsProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 9))
	accepted, several, most := 0, 0, 0
	for range 200_000 {
		var b strings.Builder
		b.WriteByte('/')
		for range 1 + random.IntN(9) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		allow := switches()[random.IntN(16)]
		p, ok := checkReadings(t, b.String(), allow)
		if !ok {
			continue
		}
		accepted++
		if n := len(raws(p)); n > 1 {
			several, most = several+1, max(most, n)
		}
	}
	if accepted < 10_000 || several < 3_000 || most < 6 {
		t.Errorf("the test sees too little: %d accepted, %d with several readings, %d at most", accepted, several, most)
	}
}

// checkReadings holds the promises of parseReadings for one path. It reports whether the path is accepted.
func checkReadings(t *testing.T, path string, allow Exceptions) (Path, bool) {
	t.Helper()
	clear, clearErr := ParsePath(path)
	p, err := parseReadings(path, allow)
	if clearErr == nil && (err != nil || p != clear) {
		t.Fatalf("%q is clear, and with %+v it is %q (%v)", path, allow, raws(p), err)
	}
	if none, noneErr := parseReadings(path, Exceptions{}); none != clear || noneErr != clearErr {
		t.Fatalf("%q without exceptions: %v and %v", path, noneErr, clearErr)
	}
	if err != nil {
		if p != (Path{}) {
			t.Fatalf("%q: refused and yet %q", path, raws(p))
		}
		return p, false
	}
	all := raws(p)
	if len(all) > maxReadings || p.raw != path {
		t.Fatalf("%q: %d readings", path, len(all))
	}
	for _, raw := range all {
		r, err := parseReadings(raw, allow)
		if err != nil {
			t.Fatalf("%q is read as %q, which is refused: %v", path, raw, err)
		}
		for _, next := range raws(r) { // nothing is left to find
			if !slices.Contains(all, next) {
				t.Fatalf("%q is read as %q, but not as %q, which that can be read as", path, all, next)
			}
		}
		checkReading(t, raw)
	}
	// What is left when everything is undone needs no exception, apart from a percent sign that means itself.
	last := trimDots(cutParameters(splitSlashes(decodeTwice(path))))
	if clear, err := parseReadings(last, Exceptions{EncodedPercent: allow.EncodedPercent}); err != nil || len(clear.readings()) > 0 || !slices.Contains(all, last) {
		t.Fatalf("%q is read as %q, and %q of these is ambiguous or not among them: %v", path, all, last, err)
	}
	return p, true
}

// checkReading looks at one reading as the programs behind do: nothing in it may climb.
func checkReading(t *testing.T, raw string) {
	t.Helper()
	for _, text := range programs(t, raw) {
		for i, segment := range strings.Split(strings.ReplaceAll(text[1:], `\`, "/"), "/") {
			segment, _, _ = strings.Cut(segment, ";")
			if segment = strings.TrimSpace(segment); segment == "." || segment == ".." || segment == "" && i < strings.Count(text, "/")-1 {
				t.Fatalf("%q: somebody reads %q", raw, text)
			}
		}
	}
}

// programs returns a path as it is, decoded once and decoded twice.
func programs(t *testing.T, raw string) []string {
	t.Helper()
	once, err := url.PathUnescape(raw)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	all := []string{raw, once}
	if twice, err := url.PathUnescape(once); err == nil {
		all = append(all, twice)
	}
	return all
}

// TestReadingsCost: the longest path costs no more than its readings.
func TestReadingsCost(t *testing.T) {
	for _, piece := range []string{"a%2Fb", "a;x/", "a%2541", "a./", "a;x=1%2541./b%2Fc/", ";", "%25", "%2F"} {
		path := "/a" + strings.Repeat(piece, (MaxPath-2)/len(piece))
		p, err := parseReadings(path, everyException)
		if n := testing.AllocsPerRun(1, func() { _, _ = parseReadings(path, everyException) }); n > 250 {
			t.Errorf("%.20s…: %v allocations (%v, %d readings)", path, n, err, len(raws(p)))
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = parseReadings("/api/patients/12/charts.json", everyException) }); n != 0 {
		t.Errorf("parseReadings allocates %v times for a plain path", n)
	}
}
