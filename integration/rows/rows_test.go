package main

import (
	"slices"
	"strings"
	"testing"
)

func TestIDs(t *testing.T) {
	for name, want := range map[string]string{
		"TestRows/C7_kid-absent-multiple-jwks":       "C7",
		"TestAttackNone/J1_none":                     "J1",
		"TestB14SameToken":                           "B14",
		"TestN21N22CodeTwice":                        "N21 N22",
		"TestN33N34Keys/N34_random_kids":             "N34",
		"TestN33N34Keys/nothing":                     "N33 N34",
		"TestJ71TwoHalves/a/b":                       "J71",
		"TestX/J2_J3_nOnE/deep":                      "J2 J3",
		"TestX/J3_none_with_a_signature_kept,_N6":    "J3 N6",
		"TestX/N1#01":                                "N1",
		"TestX/6-A.4_L4_sign-out_goes_nowhere":       "L4",
		"TestX/J31,J68:_cross-profile":               "J31 J68",
		"TestX/row_78_J64_over_24_hours":             "J64",
		"TestX/SHA256_and_ES256":                     "",
		"TestCheck/C1-ish":                           "",
		"FuzzParse/seed#0":                           "J79",
		"TestCount":                                  "",
		"TestN3umbers":                               "",
		"TestJ78OneByte/J78_RS256":                   "J78",
		"TestBackChannel/B19_POST_/_is_not_/B1_GET":  "B1",
		"TestX/CVE-2026-52845_underscores":           "CVE-2026-52845",
		"TestX/CVE-2024-45410_GHSA-w9mr_I9_x":        "CVE-2024-45410 GHSA-w9mr I9",
		"TestX/167_GET_/new":                         "167",
		"TestHMACWays/row_136_from_127.0.0.6,_a":     "136",
		"TestX/row_143_a_pepper/135_144":             "143",
		"TestRow156Life":                             "156",
		"TestA142RenewalDrill":                       "142",
		"TestJ74Row158KeyKilled/session":             "J74 158",
		"TestRow76J76Session":                        "J76",
		"TestRow181LogInjection":                     "",
		"TestA256GCM":                                "",
		"TestX/caddy-7941_/public":                   "caddy-7941",
		"TestMutatedPaths/CVE-2023-33189_Go/paths_x": "CVE-2023-33189",
		"TestX/no-id-3_200_from_port_8443":           "no-id-3",
	} {
		if got := strings.Join(idsOf(name), " "); got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	rows, err := parseTable(table)
	if err != nil {
		t.Fatal(err)
	}
	count := map[byte]int{}
	for _, row := range rows {
		table := row.id[0]
		if strings.Contains(row.id, "-") { // an advisory
			table = '-'
		}
		count[table]++
		if row.what == "" || len(row.what) > 60 {
			t.Errorf("%s is about %q", row.id, row.what)
		}
	}
	for table, want := range map[byte]int{'C': 34, 'N': 36, 'B': 21, 'L': 8, 'J': 64, '1': 32, 'P': 19, 'H': 20, 'I': 13, 'M': 8, '-': 61} {
		if count[table] != want {
			t.Errorf("table %c has %d rows, want %d", table, count[table], want)
		}
	}
	for _, bad := range []string{"C1", "X1 what", "C1 a\nC1 b", "C what"} {
		if _, err := parseTable(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// events writes what go test -json would say.
func events(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		f := strings.Fields(line)
		test := ""
		if len(f) > 2 {
			test = f[2]
		}
		b.WriteString(`{"Action":"` + f[0] + `","Package":"m/` + f[1] + `","Test":"` + test + "\"}\n")
	}
	return b.String()
}

// A table that reads events must not call a row good that nothing showed.
func TestResults(t *testing.T) {
	rows, err := parseTable("C1 one\nC2 two\nJ1 none\nJ34 p2c; not offered: no JWE")
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"pass identity/oidc TestRows/C1_a", "pass identity/oidc TestRows/C2_b", "pass identity/oidc TestRows",
		"pass jws TestA/J1_none", "pass jws TestA/J34_JWE", "pass jws TestA", "pass jws"}
	for _, c := range []struct {
		name    string
		events  []string
		limited bool
		ok      bool
		want    []string
	}{
		{"all pass", good, false, true, []string{"C1   pass            1  one", "J34  not offered     1  p2c (no JWE)", "rows: 4 hold, 0 fail"}},
		{"nothing ran", nil, false, false, []string{"C1   not run         0", "no test: C1 C2 J1 J34"}},
		{"nothing ran of a part", nil, true, false, []string{"rows: 0 hold"}},
		{"a part", good[:2], true, true, []string{"rows: 2 hold"}},
		{"one has no test", good[1:], false, false, []string{"no test: C1"}},
		{"a skipped test shows nothing", append([]string{"skip identity/oidc TestRows/C1_a"}, good[1:]...), false, false, []string{"no test: C1"}},
		{"one of two fails", append([]string{"fail identity/oidc TestRows/C1_x"}, good...), false, false, []string{"C1   FAIL            2", "C2   pass"}},
		{"one never ended", append([]string{"run jws TestA/J1_x"}, good...), false, false, []string{"J1   FAIL            2"}},
		{"the test around fails by itself", append([]string{"pass jws TestJ1None/a", "fail jws TestJ1None"}, good...), false, false, []string{"J1   FAIL"}},
		{"the test around fails for another row", append([]string{"fail jws TestJ1J34/J34_x", "fail jws TestJ1J34"}, good...), false, false, []string{"J1   pass", "J34  FAIL"}},
		{"a test of no row fails", append([]string{"fail jws TestOther"}, good...), false, false, []string{"failed beside the rows: m/jws TestOther"}},
		{"a package fails", append([]string{"fail gate"}, good...), false, false, []string{"broken: m/gate"}},
		{"a fuzz target that reads no tokens", append([]string{"fail portal FuzzDevice"}, good...), false, false, []string{"failed beside the rows: m/portal FuzzDevice"}},
		{"C1 in a package that has none of that table", append([]string{"pass session TestX/C1_control"}, good[1:]...), false, false, []string{"no test: C1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newResults(rows)
			var out strings.Builder
			if err := r.read(strings.NewReader(events(c.events...)), &out); err != nil {
				t.Fatal(err)
			}
			if err := r.print(&out, c.limited); (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestBrokenBuild(t *testing.T) {
	r := newResults(nil)
	var out strings.Builder
	text := `{"ImportPath":"m/q","Action":"build-output","Output":"q.go:1:1: expected 'package'\n"}
{"ImportPath":"m/q","Action":"build-fail"}
go: no such package
`
	if err := r.read(strings.NewReader(text), &out); err != nil {
		t.Fatal(err)
	}
	if !r.failed() || !slices.Contains(r.broken, "m/q") || !strings.Contains(out.String(), "expected 'package'") || !strings.Contains(out.String(), "no such package") {
		t.Errorf("%v: %s", r.broken, out.String())
	}
}

func TestSelection(t *testing.T) {
	known := func(id string) bool { return id == "J1" }
	for text, want := range map[string]bool{
		"func TestJ1None(t *testing.T) {}":               true,
		"func TestNone(t *testing.T) {}\n\"J1 none\"":    true,
		"func TestNone(t *testing.T) {}\n\"a name J1\"":  true,
		"func TestNone(t *testing.T) {}\n\"J2 unknown\"": false,
		"// J1 in a comment":                             false,
	} {
		if got := namesRow(text, known); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
