package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// G12: the report of a folder of the audit log, in the three forms.
func TestReviewReport(t *testing.T) {
	dir := t.TempDir()
	log := `{"time":"2026-05-01T10:00:00.000Z","kind":"emergency","ref":"A","site":"x.test","decision":"allowed","reason":"drill","drill":true}
{"time":"2026-05-02T10:00:00.000Z","kind":"review","ref":"A","decision":"allowed","reason":"review-accepted","rule":"reviewer eve"}
{"time":"2026-05-03T10:00:00.000Z","kind":"emergency","ref":"B","site":"=cmd()","decision":"allowed","reason":"life","degraded":"fresh-sign-in"}
`
	if err := os.WriteFile(filepath.Join(dir, "audit-2026-05-01.jsonl"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		c := reviewCommand()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(append([]string{"report"}, args...))
		err := c.Execute()
		return out.String(), err
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{dir}, []string{"2026-05  x.test  1      1       0                 1         1         0         0     0", "=cmd()  1      0       1                 0         0         0         0     1", "all              2", "x.test had 1 drills"}},
		{[]string{dir, "--csv"}, []string{"month,site,begun,drills,without_fresh_sign_in,reviewed,accepted,rejected,late,overdue\n", "2026-05,x.test,1,1,0,1,1,0,0,0\n", "2026-05,'=cmd(),1,0,1,0,0,0,0,1\n"}},
		{[]string{dir, "--json"}, []string{`"month": "2026-05"`, `"drills_within_a_year"`}},
	} {
		out, err := run(c.args...)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v lacks %q:\n%s", c.args, want, out)
			}
		}
	}
	for _, args := range [][]string{{}, {dir, "--csv", "--json"}, {filepath.Join(dir, "none")}, {t.TempDir()}} {
		if out, err := run(args...); err == nil {
			t.Errorf("%v: no error, %s", args, out)
		}
	}
}

// Row 181: what stands in a log acts neither on a spreadsheet nor on a terminal, whatever form the report has.
func TestRow181ReviewReport(t *testing.T) {
	for text, want := range map[string]string{
		"=1+1": "'=1+1", "@x": "'@x", " =1+1": "' =1+1", "\uff1d1+1": "'\uff1d1+1", "\u00a0\uff20x": "'?\uff20x", "\"=1": "'\"=1", "\t=1": "'?=1", "app.test": "app.test", "": "",
	} {
		if got := spreadsheet(text); got != want {
			t.Errorf("%q is written as %q, want %q", text, got, want)
		}
	}
	evil := "dana\x1b[2J\u009b31m\u202egpj\u2028\U000e0041é"
	c := reviewCommand()
	var out bytes.Buffer
	c.SetOut(&out)
	if err := printJSON(c, map[string]string{evil: evil}); err != nil {
		t.Fatal(err)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back[evil] != evil {
		t.Errorf("a program reads %q, %v", back, err)
	}
	if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || !strings.Contains(out.String(), "é") {
		t.Errorf("%q", out.String())
	}
}
