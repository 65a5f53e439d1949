package caddymodule

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// TestHMACReloadWithNewCertificateFile: both keys are in Caddy's cache while the new config starts, and the ring is wrapped
// for the new one then. Limits outlive the reload: it must not be a way to get a fresh burst.
func TestHMACReloadWithNewCertificateFile(t *testing.T) {
	b := newBench(t)
	site := strings.Replace(hmacSite, "compat", "compat\n\t\tlimit 1 burst 20", 1)
	config, err := adapt(t, b.hmacFile(t, "", site))
	if err != nil {
		t.Fatal(err)
	}
	c := b.dialing(t, run(t, config), nil)
	record := c.protect("u", "s")
	if status, _ := c.do("GET", "/hmac-service?x&19", ""); status != 200 {
		t.Fatal(status)
	}
	b.certificate(t, "tls", "localhost") // a new key in the place of the old one
	load(t, config)
	c = b.dialing(t, run2(t), nil)
	if status, body := c.do("GET", "/hmac-service?x&19", ""); status != 429 {
		t.Errorf("the reload filled the bucket: %d %s", status, body)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	load(t, config) // with the new key alone
	c = b.dialing(t, run2(t), nil)
	if !c.verify("u", "s", record) {
		t.Error("the new key does not open the ring")
	}
}

// TestHMACLockedAndRecovered: the key was swapped while the program was down. It answers 503 and says what to do; the
// recovery key opens the ring; every record verifies again.
func TestHMACLockedAndRecovered(t *testing.T) {
	b := newBench(t)
	secretFile := filepath.Join(b.dir, "recovery")
	var out bytes.Buffer
	command := func(args ...string) (string, error) {
		c := &cobra.Command{Use: "keys", SilenceErrors: true}
		keysCommand(c)
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(args)
		out.Reset()
		err := c.Execute()
		return strings.TrimSpace(out.String()), err
	}
	public, err := command("ring", "recovery-key", "--out", secretFile)
	if err != nil || len(public) != 43 {
		t.Fatal(public, err)
	}
	if _, err := command("ring", "recovery-key", "--out", secretFile); err == nil {
		t.Error("a recovery key was written over")
	}
	if info, err := os.Stat(secretFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	config, err := adapt(t, b.hmacFile(t, "", strings.Replace(hmacSite, "no_recovery", "recovery "+public, 1)))
	if err != nil {
		t.Fatal(err)
	}
	c := b.dialing(t, run(t, config), nil)
	record := c.protect("u", "s")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	b.certificate(t, "tls", "localhost") // a new key in the place of the old one
	load(t, config)
	c = b.dialing(t, run2(t), nil)
	if status, body := c.do("POST", "/hmac-service/v1/verify", `{"uid":"u","secret":"s","record":"`+record+`"}`); status != 503 || !strings.Contains(body, "locked") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := c.do("POST", "/hmac-service/v1/protect", `{"items":[{"uid":"u","secret":"s"}]}`); status != 503 {
		t.Errorf("a locked ring protects: %d", status)
	}
	if log, err := os.ReadFile(filepath.Join(b.dir, "caddy.log")); err != nil || !bytes.Contains(log, []byte("anteroom keys ring recover --key FILE --cert-key FILE")) {
		t.Errorf("the log lacks the remedy: %v", err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	certKey := filepath.Join(b.dir, "tls.key")
	for name, args := range map[string][]string{
		"no key":        {"--cert-key", certKey},
		"no cert key":   {"--key", secretFile},
		"absent key":    {"--key", secretFile + "x", "--cert-key", certKey},
		"no TLS key":    {"--key", secretFile, "--cert-key", filepath.Join(b.dir, "tls.pem")},
		"not a secret":  {"--key", certKey, "--cert-key", certKey},
		"absent store":  {"--key", secretFile, "--cert-key", certKey, "--store", filepath.Join(b.dir, "nowhere")},
		"ring unknown":  {"--key", secretFile, "--cert-key", certKey, "--ring", "other"},
		"one word more": {"--key", secretFile, "--cert-key", certKey, "word"},
	} {
		if text, err := command(append([]string{"ring", "recover"}, args...)...); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
	if text, err := command("ring", "recover", "--key", secretFile, "--cert-key", certKey); err != nil || !strings.Contains(text, "localhost") {
		t.Fatal(text, err)
	}
	load(t, config)
	c = b.dialing(t, run2(t), nil)
	if !c.verify("u", "s", record) {
		t.Error("after the recovery it does not verify")
	}
}

// TestRingRecoveredWhileRunning: the same beside the running program, which also nodes of a shared store can do. The recovery key
// is in no log.
func TestRingRecoveredWhileRunning(t *testing.T) {
	r := newRingRig(t)
	key, other := filepath.Join(r.dir, "recovery.key"), filepath.Join(r.dir, "other.key")
	public, err := MakeRecoveryKey(key, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MakeRecoveryKey(other, false); err != nil {
		t.Fatal(err)
	}
	config, err := adapt(t, r.hmacFile(t, "", strings.Replace(hmacSite, "no_recovery", "recovery "+public, 1)))
	if err != nil {
		t.Fatal(err)
	}
	config = withAdmin(t, config, r.at)
	load(t, config)
	record := r.dialing(t, run2(t), nil).protect("u", "s")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	r.certificate(t, "tls", "localhost") // a new key in the place of the old one
	load(t, config)
	r.must("locked", "status")
	r.refused("not one of its recipients", "recover", "--key", other)
	r.refused("no ring", "recover", "--key", key, "--ring", "nowhere")
	r.must("locked", "status")
	r.must("The ring is open", "recover", "--key", key)
	if !r.dialing(t, run2(t), nil).verify("u", "s", record) {
		t.Error("after the recovery it does not verify")
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(r.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	body := strings.TrimSpace(string(secret[strings.LastIndex(string(secret), ":")+1:]))
	audit := r.auditText(t)
	if strings.Contains(string(log)+audit, body) || !strings.Contains(audit, "ring-recovered") {
		t.Error("the recovery key is in a log, or its use in none")
	}
}
