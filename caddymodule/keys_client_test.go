package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/spf13/cobra"
)

// signingKid is the client key that signs, and how many keys there are.
func signingKid(t *testing.T, e clientEntry) (kid string, n int) {
	t.Helper()
	for _, k := range e.Keys {
		if k.Use == "client" && k.State == oidc.KeySigns {
			kid = k.KID
		}
	}
	return kid, len(e.Keys)
}

// S9: the keys with which we prove ourselves to a provider are listed, replaced in two steps or, when one was stolen, at once; and
// each answer says what to do next.
func TestRowS9ClientKeys(t *testing.T) {
	b := newBench(t)
	file := strings.Replace(b.file("", gatedSite), "client_secret {file."+b.dir+"/secret}", "client_auth private_key_jwt", 1)
	r := newKeyRig(t, b, file)
	entry := func(body string) (e clientEntry) {
		t.Helper()
		if status, text := r.ask("client", body, &e); status != 200 {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		return e
	}
	if s := r.status(); len(s.Clients) != 1 || s.Clients[0].Name != "idp" || len(s.Clients[0].Keys) != 0 || s.Clients[0].Published != "/.anteroom/jwks/idp.json" {
		t.Errorf("before a key is needed: %+v", s.Clients)
	}
	e := entry(`{"name":"idp"}`)
	old, n := signingKid(t, e)
	if n != 2 || !strings.Contains(string(e.Keys[1].JWK), `"crv":"P-256"`) || strings.Contains(string(e.Keys[1].JWK), `"d"`) {
		t.Fatalf("published: %+v", e)
	}
	if again, n := signingKid(t, entry(`{"name":"idp"}`)); again != old || n != 2 {
		t.Errorf("once more: %s, %d keys", again, n)
	}
	for body, want := range map[string]struct {
		status int
		text   string
	}{
		`{"name":"idp","activate":true}`: {503, "cannot be asked"}, // nobody listens at its address
		`{"name":"other"}`:               {404, "idp"},
		`{"name":"idp","force":true}`:    {400, "force"},
		`{"name":"idp","kid":"x"}`:       {400, "unknown field"},
	} {
		if status, text := r.ask("client", body, nil); status != want.status || !strings.Contains(text, want.text) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	now, n := signingKid(t, entry(`{"name":"idp","activate":true,"force":true}`))
	if now == old || n != 2 {
		t.Errorf("activated: %s, %d keys", now, n)
	}
	if status, text := r.ask("client", `{"name":"idp","activate":true,"force":true}`, nil); status != 409 || !strings.Contains(text, "no next key") {
		t.Errorf("nothing to activate: %d %s", status, text)
	}
	if status, text := r.ask("compromised", `{"id":"client/other"}`, nil); status != 404 || !strings.Contains(text, "keys status") {
		t.Errorf("a client of nobody: %d %s", status, text)
	}
	var plan keyAnswer
	if status, text := r.ask("compromised", `{"id":"client/idp","dry_run":true}`, &plan); status != 200 || !strings.Contains(text, "register the new one") {
		t.Errorf("dry run: %d %s", status, text)
	}
	entry(`{"name":"idp"}`)
	op := r.done("compromised", `{"id":"client/idp"}`)
	s := r.status().Clients[0]
	if last, n := signingKid(t, s); n != 1 || last == now || !slices.Equal(op.Old, []string{now}) || !strings.Contains(op.Steps[0].Detail, last) {
		t.Errorf("after the leak: %+v, %+v", s, op)
	}
	for _, want := range []string{`"client-key-published"`, `"client-key-activated"`, `"compromised-client client/idp"`} {
		if !strings.Contains(r.auditText(t), want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
	// As an operator sees it.
	say := func(args ...string) string {
		t.Helper()
		c := &cobra.Command{Use: "keys", SilenceErrors: true}
		keysCommand(c)
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetArgs(append(args, "--address", r.listen))
		if err := c.Execute(); err != nil {
			return err.Error()
		}
		return out.String()
	}
	for _, q := range []struct{ args, want string }{
		{"rotate client idp", "keys rotate client idp --activate"}, {"rotate client idp --activate", "cannot be asked"},
		{"rotate client idp --activate --force", "stays published until"}, {"status", "client/idp"},
		{"rotate client", "client and its name"}, {"rotate data --activate", "--activate belongs to"}, {"rotate client idp --force", "--force to --activate"},
		{"rotate client idp --dry-run", "--dry-run to neither"}, {"rotate client nobody", "No identity provider"}, {"rotate peppers", "not \"peppers\""},
	} {
		if got := say(strings.Fields(q.args)...); !strings.Contains(got, q.want) {
			t.Errorf("%s: %s", q.args, got)
		}
	}
	res, err := rig{bench: b, t: t}.client().Get("https://app.test:8443/.anteroom/jwks/idp.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil || res.StatusCode != http.StatusOK || len(set.Keys) != 2 {
		t.Errorf("%d %v %v", res.StatusCode, set, err)
	}
}
