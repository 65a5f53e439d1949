package caddymodule

import "testing"

// TestOnePersonOneBudget: whoever comes with a session and with a token of the same issuer is one person, whatever the blocks are called;
// people of another issuer are others, whatever they are called there.
func TestOnePersonOneBudget(t *testing.T) {
	a := &App{Bearer: []*BearerIssuer{
		{Name: "apps", Issuer: "https://login.test"}, {Name: "names", Issuer: "https://login.test", UsernameClaim: "preferred_username"},
		{Name: "others", Issuer: "https://elsewhere.test", UsernameClaim: "preferred_username"}, {Name: "prefixed", Issuer: "https://third.test", UsernameClaim: "upn", UsernamePrefix: "x:"},
	}}
	a.sources = append(a.sources, &OIDC{Name: "hospital", Issuer: "https://login.test"}, &OIDC{Name: "clinic", Issuer: "https://third.test"})
	person := a.persons()
	for _, same := range [][2]string{
		{person("hospital", "1", "ann"), person("names", "77", "Ann")}, // pairwise subjects, one username
		{person("clinic", "1", "ann"), person("clinic", "1", "renamed")},
		{person("apps", "1", "1"), person("apps", "1", "other")},
		{person("clinic", "9", "ann"), person("prefixed", "9", "x:ann")}, // the same issuer, names of other claims: the account
	} {
		if same[0] != same[1] {
			t.Errorf("two people: %q, %q", same[0], same[1])
		}
	}
	seen := map[string]bool{}
	for _, p := range []string{
		person("hospital", "1", "ann"), person("others", "1", "ann"), person("clinic", "1", "ann"), person("hospital", "1", "bob"), person("clinic", "2", "ann"),
		person("apps", "1", ""), person("unknown", "1", "ann"),
	} {
		if seen[p] {
			t.Errorf("%q is two people", p)
		}
		seen[p] = true
	}
}

// TestBudgetsCountOverPorts: one block with hosts on several ports is one site; two blocks of one snippet are two.
func TestBudgetsCountOverPorts(t *testing.T) {
	b := newBench(t)
	rules := "allow role doctor /{patient}\nbudget role doctor 5 distinct {patient} per 1h"
	text := "(gated) {\n\tTLS\n\tanteroom {\n\t\t" + rules + "\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
	text = text + "app.test:8443, clinic.test:9443, clinic.test:8443 {\n\timport gated\n}\none.test:8443 {\n\timport gated\n}\ntwo.test:9443 {\n\timport gated\n}\n"
	run(t, adapted(t, b.file("", text)))
	a, _ := active(t)
	for host, want := range map[string]string{"app.test": "app.test", "clinic.test": "app.test", "one.test": "one.test", "two.test": "two.test"} {
		if got := a.countedAs(host); got != want {
			t.Errorf("%s counts as %s", host, got)
		}
	}
}
