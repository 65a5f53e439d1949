package caddymodule

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// ringRig is a running program with an hmac_service and an admin interface, without the global option anteroom.
type ringRig struct {
	bench
	t  *testing.T
	at string
}

func newRingRig(t *testing.T) ringRig {
	t.Helper()
	r := ringRig{newBench(t), t, ""}
	t.Cleanup(func() {
		quiet := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`
		if err := caddy.Load([]byte(quiet), true); err != nil {
			t.Error(err)
		}
	})
	socket := "unix/" + filepath.Join(t.TempDir(), "admin.sock")
	r.at = socket
	return r
}

func (r ringRig) serve(lines string) caller {
	r.t.Helper()
	site := strings.Replace(hmacSite, "no_recovery", "no_recovery\n\t\tlimit 100000 burst 100000\n"+lines, 1)
	config, err := adapt(r.t, r.hmacFile(r.t, "", site))
	if err != nil {
		r.t.Fatal(err)
	}
	load(r.t, withAdmin(r.t, config, r.at))
	return r.dialing(r.t, run2(r.t), nil)
}

// ring runs `keys ring …`.
func (r ringRig) ring(args ...string) (string, error) {
	r.t.Helper()
	c := &cobra.Command{Use: "keys"}
	keysCommand(c)
	return command(r.t, c, append([]string{"ring", args[0], "--address=" + r.at}, args[1:]...)...)
}

func (r ringRig) must(want string, args ...string) string {
	r.t.Helper()
	out, err := r.ring(args...)
	if err != nil || !strings.Contains(out, want) {
		r.t.Fatalf("keys ring %v: %q, %v", args, out, err)
	}
	return out
}

func (r ringRig) refused(want string, args ...string) {
	r.t.Helper()
	out, err := r.ring(args...)
	if err == nil || !strings.Contains(err.Error(), want) {
		r.t.Errorf("keys ring %v: %q, %v", args, out, err)
	}
}

// TestRingCommands: an operator takes a pepper from its rotation to its end without losing a record on the way.
func TestRingCommands(t *testing.T) {
	r := newRingRig(t)
	c := r.serve("")
	old := c.protect("u", "s")
	r.must("p1", "status")
	if out := r.must(`"state": "open"`, "status", "--json"); strings.Contains(out, `"key"`) {
		t.Error("a key is in the status")
	}
	r.must("primary", "rotate", "--in", "0s")
	fresh := c.protect("v", "s")
	if !strings.Contains(fresh, ",l=p2,") || !c.verify("u", "s", old) {
		t.Errorf("after the rotation: %s", fresh)
	}
	r.refused("rotate first", "retire", "p2")
	r.refused("census", "retire", "p1")
	r.refused("census", "close", "p1")
	r.refused("no pepper of that name", "retire", "p7", "--force")

	upgraded := r.upgrade(old, fresh)
	if !strings.Contains(upgraded[0], ",l=p1.p2,") || upgraded[1] != fresh || !c.verify("u", "s", upgraded[0]) {
		t.Fatalf("upgraded: %q", upgraded)
	}
	if again := r.upgrade(upgraded...); again[0] != upgraded[0] || again[1] != upgraded[1] {
		t.Error("a second upgrade changed something")
	}
	file := r.write(t, "records", strings.Join(upgraded, "\n")+"\n")
	r.must("2 records: p1 1, p2 2; as outermost layer: p2 2; 0 are not of this ring", "census", file)
	r.refused("1 records that need p1", "retire", "p1")
	r.must("inner", "close", "p1")
	if status, _ := c.do("POST", "/hmac-service/v1/verify", fmt.Sprintf(`{"uid":"u","secret":"s","record":%q}`, old)); status == 200 {
		t.Error("a record under the closed pepper alone verifies: whoever has the pepper can make one")
	}
	if !c.verify("u", "s", upgraded[0]) {
		t.Error("the upgraded record does not verify")
	}
	file = r.write(t, "records2", fresh+"\n")
	r.must("1 records: p2 1", "census", file)
	r.must("retired", "retire", "p1")
	r.must("verify", "reopen", "p1")
	r.refused("census", "retire", "p1")
	r.must("retired", "retire", "p1", "--force")
	r.refused("a week", "destroy", "p1")
	r.must("destroyed", "destroy", "p1", "--force")
	r.must("wrapped anew", "rewrap")
	if !c.verify("v", "s", fresh) {
		t.Error("the fresh record does not verify")
	}
	audit := r.auditText(t)
	for _, reason := range []string{"ring-rotated", "ring-retired", "ring-closed", "ring-reopened", "ring-destroyed", "ring-rewrapped", "ring-counted", "ring-upgraded"} {
		if !strings.Contains(audit, reason) {
			t.Errorf("the audit log has no %s", reason)
		}
	}
	r.refused("There is no ring of that name", "rotate", "--ring", "other")
	r.refused("no record", "census", r.write(t, "empty", "\n\n"))
	bad := r.write(t, "bad", fresh+"\nnot a record\n")
	out, err := r.ring("upgrade", bad)
	if err == nil || !strings.Contains(out, "line 2:") || !strings.Contains(out, "not a record") {
		t.Errorf("a file with something else in it: %q %v", out, err)
	}
}

// upgrade runs a file through `keys ring upgrade`.
func (r ringRig) upgrade(records ...string) []string {
	r.t.Helper()
	file := r.write(r.t, "upgrade", strings.Join(records, "\r\n"))
	out := r.must("upgraded", "upgrade", file)
	var lines []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "$") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != len(records) {
		r.t.Fatalf("upgraded: %q", out)
	}
	return lines
}

// TestRingMoves: a ring goes to another site by a file that only the recovery key opens, and never over another ring.
func TestRingMoves(t *testing.T) {
	r := newRingRig(t)
	key := filepath.Join(r.dir, "recovery.key")
	public, err := MakeRecoveryKey(key, false)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(r.dir, "other.key")
	if _, err := MakeRecoveryKey(other, false); err != nil {
		t.Fatal(err)
	}
	c := r.serve("")
	record := c.protect("u", "s")
	file := filepath.Join(r.dir, "ring.export")
	sum, _, _ := strings.Cut(r.must("ring.export", "export", "--to", public, "--out", file), " ")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	r.refused("exists", "export", "--to", public, "--out", file)
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	r.refused("secret half", "export", "--to", strings.TrimSpace(string(secret[strings.Index(string(secret), "ANTEROOM"):])), "--out", file+"2")

	r.must("The ring is here", "import", "--key", key, file) // its own, unchanged
	certKey := filepath.Join(r.dir, "tls.key")
	id := strings.TrimSpace(r.must("d:", "import-original", "--key", certKey))
	r.must(id, "status")
	r.refused("not 64 hexadecimal digits", "import-original", "--effective", r.write(t, "hex", "abc"))
	r.must("d:", "import-original", "--effective", r.write(t, "hex2", strings.Repeat("ab", 32)+"\n"))

	c = r.serve("\t\tring second")
	second := c.protect("u", "s")
	r.refused("another ring", "import", "--key", key, file)
	if !c.verify("u", "s", second) {
		t.Error("the ring that is here was touched")
	}
	c = r.serve("\t\tring third existing")
	if status, _ := c.do("POST", "/hmac-service/v1/protect", `{"items":[{"uid":"u","secret":"s"}]}`); status != 503 {
		t.Errorf("a ring that should have been imported was made: %d", status)
	}
	r.must("waiting", "status", "--ring", "third")
	r.refused("does not open the file", "import", "--key", other, file)
	if out := r.must("The ring is here", "import", "--key", key, file); !strings.HasPrefix(out, sum) {
		t.Errorf("the sums differ: %s and %s", sum, out)
	}
	if !c.verify("u", "s", record) {
		t.Error("the record of the first site does not verify")
	}
	log, err := os.ReadFile(filepath.Join(r.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	body := string(secret[strings.LastIndex(string(secret), ":")+1:])
	for name, text := range map[string]string{"log": string(log), "audit log": r.auditText(t)} {
		if strings.Contains(text, strings.TrimSpace(body)) || strings.Contains(text, strings.Repeat("ab", 32)) {
			t.Errorf("a secret is in the %s", name)
		}
	}
}

func TestRingsWithoutAService(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	c := &cobra.Command{Use: "keys"}
	keysCommand(c)
	if out, err := command(t, c, "ring", "status", "--address="+r.adminSocket()); err == nil || !strings.Contains(err.Error(), "hmac_service") {
		t.Errorf("%q %v", out, err)
	}
}

// TestRenewalIsPutOff: while the ring could not be wrapped for a new key, and nothing but the old one opens it; for a
// renewal of this subject, and not when the certificate is about to end.
func TestRenewalIsPutOff(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := hardening.NewTLSKey(priv, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	late := new(lateStore) // a store that does not answer
	ring := func(kms hardening.Wrapper) *hardening.Ring {
		r, err := hardening.NewRing(hardening.RingConfig{Name: "x", Store: late, NoRecovery: true, KMS: kms,
			Keys: func(context.Context) ([]hardening.TLSKey, error) { return []hardening.TLSKey{k}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	h := &HMACService{ring: ring(nil), app: new(hmacApp)}
	h.keys.subject = "a.example"
	o := &obtaining{service: h}
	o.ctx.Context = t.Context()
	event := func(renewal bool, name string, remaining any) caddy.Event {
		return caddy.Event{Data: map[string]any{"renewal": renewal, "identifier": name, "remaining": remaining}}
	}
	const month = 30 * 24 * time.Hour
	for name, c := range map[string]struct {
		e    caddy.Event
		kms  hardening.Wrapper
		veto bool
	}{
		"renewal":            {event(true, "a.example", month), nil, true},
		"of a wildcard":      {event(true, "*.example", month), nil, true},
		"first certificate":  {event(false, "a.example", month), nil, false},
		"another subject":    {event(true, "b.example", month), nil, false},
		"a day is left":      {event(true, "a.example", 24*time.Hour), nil, false},
		"nobody knows":       {event(true, "a.example", "soon"), nil, false},
		"a KMS opens it too": {event(true, "a.example", month), lateWrapper{late}, false},
	} {
		h.ring = ring(c.kms)
		err := o.Handle(t.Context(), c.e)
		if errors.Is(err, caddy.ErrEventAborted) != c.veto || (err != nil) != c.veto {
			t.Errorf("%s: %v", name, err)
		}
	}
}
