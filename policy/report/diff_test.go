package report

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/policy"
)

// said are the changes as lines "opened doctor GET /x".
func said(c Comparison) (list []string) {
	for _, x := range c.Changes {
		for _, method := range x.Methods {
			list = append(list, strings.Join([]string{string(x.Direction), x.Who, method, x.Route}, " "))
		}
	}
	return list
}

// compare compares two texts.
func compare(t *testing.T, before, after string, change ...func(*policy.Config)) Comparison {
	t.Helper()
	return Compare([]*Site{site(t, before)}, []*Site{site(t, after, change...)})
}

// TestDiffFindsWhatOpens: each edit by which something opens is seen, with an exit code that says so.
func TestDiffFindsWhatOpens(t *testing.T) {
	base := "allow role doctor /patients/**\nallow role nurse GET /beds/*\ndeny role intern /patients/**\nallow role finance /bills/** network wards\n" +
		"allow role auditor GET /audit hours mon-fri 07:00-19:00 Europe/Brussels\nrequire acr mfa /patients/*/orders/**\nallow role tester GET /t/{user}/**\nallow any GET /org when `user.org == \"lab\"`"
	wide := func(c *policy.Config) { c.IgnoreCase = true }
	slash := func(c *policy.Config) { c.Exceptions.EncodedSlash = true }
	for name, c := range map[string]struct {
		old, new string // a part of the base, and what it becomes
		want     string
		change   func(*policy.Config)
	}{
		"another role":                            {"role doctor", "role doctor,nurse", "opened nurse GET /patients/**", nil},
		"everybody":                               {"role nurse GET /beds/*", "public GET /beds/*", "opened anonymous GET /beds/*", nil},
		"all methods":                             {"GET /beds/*", "/beds/*", "opened nurse DELETE /beds/*", nil},
		"deeper":                                  {"/beds/*", "/beds/**", "opened nurse GET /beds/*/*", nil},
		"a slash at the end":                      {"/beds/*", "/beds/* /beds/*/", "opened nurse GET /beds/*/", nil},
		"the list itself":                         {"/beds/*", "/beds/* /beds", "opened nurse GET /beds", nil},
		"a deny that goes opens to both":          {"deny role intern /patients/**\n", "", "opened doctor + intern GET /patients/**", nil},
		"a deny for another path":                 {"deny role intern /patients/**", "deny role intern /patients/*", "opened doctor + intern GET /patients/*/*", nil},
		"a condition that goes":                   {" network wards", "", "opened finance GET /bills/**", nil},
		"a network that grows":                    {"network wards", "network 10.0.0.0/8", "opened finance GET /bills/**", nil},
		"hours that grow":                         {"07:00-19:00", "07:00-19:30", "opened auditor GET /audit", nil},
		"weekends":                                {"mon-fri", "mon-sat", "opened auditor GET /audit", nil},
		"a zone":                                  {"Europe/Brussels", "UTC", "opened auditor GET /audit", nil},
		"a level that is enough":                  {"acr mfa", "acr mfa,pwd", "opened doctor GET /patients/*/orders/**", nil},
		"a require that goes":                     {"require acr mfa /patients/*/orders/**\n", "", "opened doctor GET /patients/*/orders/**", nil},
		"not only one's own":                      {"/t/{user}/**", "/t/*/**", "opened tester GET /t/{user}/**", nil},
		"a text that nobody can compare":          {"user.org == \"lab\"", "user.org != \"\"", "changed signed in, no role GET /org", nil},
		"emergency":                               {"allow any", "break_glass role nurse GET on /patients/{patient}/** for 30m\nallow any", "opened nurse GET /patients/**", nil},
		"capitals, as the app does not read them": {"", "", "opened nurse GET /BEDS/*", wide},
		"encoded slashes":                         {"", "", "opened doctor GET /*%2F*", slash},
	} {
		change := func(*policy.Config) {}
		if c.change != nil {
			change = c.change
		}
		before, after := base, strings.Replace(base, c.old, c.new, 1)
		if name == "encoded slashes" {
			before, after = before+"\nallow role doctor /**", after+"\nallow role doctor /**"
		}
		got := compare(t, before, after, change)
		if !slices.Contains(said(got), c.want) || !got.Opens() {
			t.Errorf("%s: %q is not among %q", name, c.want, said(got))
		}
		if c.change != nil {
			continue
		}
		if name == "a zone" {
			continue // the day begins and ends at other hours: something opens both ways
		}
		back := compare(t, after, before)
		closed := strings.Replace(c.want, "opened", "closed", 1)
		if !slices.Contains(said(back), closed) {
			t.Errorf("%s, and back: %q is not among %q", name, closed, said(back))
		}
		if strings.HasPrefix(c.want, "opened") && back.Opens() {
			t.Errorf("%s, and back: it is said to open %q", name, said(back))
		}
	}
}

// TestDiffKeepsQuiet: the same lines in another order, at other places, under another name of a network, or with a shadow line more,
// change nothing.
func TestDiffKeepsQuiet(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(hospital), "\n")
	slices.Reverse(lines)
	for name, after := range map[string]string{
		"order":         strings.Join(lines, "\n"),
		"places":        "\n\n" + hospital,
		"shadow":        hospital + "shadow allow public /patients/**\n",
		"two lines":     strings.Replace(hospital, "allow role doctor /patients/**", "allow role doctor GET,POST,PUT,PATCH /patients/**\nallow role doctor OPTIONS,DELETE /patients/**", 1),
		"a way through": strings.Replace(hospital, "allow public GET /status", "allow public HEAD,GET /status", 1),
	} {
		if c := compare(t, hospital, after); len(c.Changes) > 0 || c.Opens() {
			t.Errorf("%s: %q", name, said(c))
		}
	}
	renamed := compare(t, "allow role finance /bills/** network wards", "allow role finance /bills/** network stations", func(c *policy.Config) {
		c.Networks = map[string][]netip.Prefix{"stations": networks["wards"]}
	})
	if slices.ContainsFunc(renamed.Changes, func(x Change) bool { return x.Direction != Changed }) {
		t.Errorf("another name: %q", said(renamed))
	}
	moved := compare(t, "allow role finance /bills/** network wards", "allow role finance /bills/** network wards", func(c *policy.Config) {
		c.Networks = map[string][]netip.Prefix{"wards": {netip.MustParsePrefix("10.0.0.0/8")}}
	})
	if !moved.Opens() || len(moved.Changes) == 0 || moved.Changes[0].Direction != Opened {
		t.Errorf("the same name for more addresses: %q", said(moved))
	}
}

// TestDiffSites: a site that is new, and one that is gated no more, which opens it to whatever serves it then.
func TestDiffSites(t *testing.T) {
	a, b := site(t, "allow role doctor"), site(t, "allow role doctor")
	b.Hosts = []string{"other.test"}
	c := Compare([]*Site{a}, []*Site{a, b})
	if !slices.Equal(c.Added, []string{"other.test"}) || !slices.Contains(said(c), "opened doctor GET /**") || !c.Opens() {
		t.Errorf("a new site: %+v", c)
	}
	c = Compare([]*Site{a, b}, []*Site{a})
	if !slices.Equal(c.Removed, []string{"other.test"}) || !c.Opens() || len(c.Changes) > 0 {
		t.Errorf("a site that goes: %+v", c)
	}
	var out bytes.Buffer
	if err := c.Write(&out); err != nil || !strings.Contains(out.String(), "OPENED other.test") {
		t.Errorf("%s %v", out.String(), err)
	}
}

// TestDiffGolden: what a person sees.
func TestDiffGolden(t *testing.T) {
	after := strings.NewReplacer("role finance /bills/** network wards", "role finance /bills/**", "allow role patient GET /patients/{user}/**", "allow role patient GET /patients/*/**",
		"mon-fri", "mon-thu", "deny user mallory /patients/**\n", "").Replace(hospital)
	c := compare(t, hospital, after)
	var out bytes.Buffer
	if err := c.Write(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "diff.txt", out.Bytes())
	var quiet bytes.Buffer
	same := compare(t, hospital, hospital)
	if err := same.Write(&quiet); err != nil || !strings.HasPrefix(quiet.String(), "Nothing changes") {
		t.Errorf("%q %v", quiet.String(), err)
	}
}

// TestMeet: what two patterns have in common.
func TestMeet(t *testing.T) {
	for _, c := range [][3]string{
		{"/*/{id}/admin/", "/a/**", "/a/{id}/admin"}, {"/a/**", "/*/b", "/a/b"}, {"/a/*", "/*/b/", "/a/b/"}, {"/A/*", "/*/b", "/A/b"},
		{"/*/x/**", "/a/**", "/a/x/**"}, {"/a/{user}", "/a/*", "/a/{user}"}, {"/**", "/x/", "/x/"}, {"/x", "/**", "/x"},
	} {
		if got := meet(c[0], c[1]); got != c[2] {
			t.Errorf("%s and %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// TestDiffSaysWhatItLeftOut: where there are more people than are compared, it says so, in the text and for programs; where a line is
// about a few of many, all of these are compared.
func TestDiffSaysWhatItLeftOut(t *testing.T) {
	var many strings.Builder
	for i := range maxDiffActors + 20 {
		fmt.Fprintf(&many, "allow role r%d /x/%d\n", i, i%3)
	}
	c := compare(t, many.String(), many.String()+"allow any GET /y")
	var text strings.Builder
	if err := c.Write(&text); err != nil || len(c.Sampled) != 1 || !strings.Contains(text.String(), "NOT ALL WAS LOOKED AT") || !strings.Contains(text.String(), "1000 of 1021 people") {
		t.Errorf("%v %q", c.Sampled, text.String())
	}
	last := fmt.Sprintf("r%d", maxDiffActors+19)
	c = compare(t, many.String(), many.String()+"allow role "+last+" GET /y")
	if len(c.Sampled) != 0 || !slices.Contains(said(c), "opened "+last+" GET /y") {
		t.Errorf("%v %q", c.Sampled, said(c))
	}
}
