package caddymodule

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

const internalSite = `https://localhost:8444 {
	tls {
		issuer internal {
			lifetime 30s
		}
	}
	hmac_service {
		token_file DIR/token
		no_recovery
		compat
	}
}
`

// trustInternal waits for the internal CA's root, which the first start makes, and trusts it.
func (b bench) trustInternal(t *testing.T) {
	t.Helper()
	root := filepath.Join(b.dir, "data", "caddy", "pki", "authorities", "local", "root.crt")
	until(t, "the internal CA is there", func() bool {
		raw, err := os.ReadFile(root)
		return err == nil && b.pool.AppendCertsFromPEM(raw)
	})
}

// until polls for something that Caddy does in its own time.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if done() {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited for nothing: %s", what)
		}
	}
}

// servedKey is the digest of the public key that the server shows now; "" when it shows none.
func (c caller) servedKey() string {
	tr := c.http.Transport.(*http.Transport)
	conn, err := tr.DialContext(context.Background(), "tcp", "")
	if err != nil {
		return ""
	}
	defer conn.Close()
	s := tls.Client(conn, &tls.Config{RootCAs: tr.TLSClientConfig.RootCAs, ServerName: "localhost"})
	if s.HandshakeContext(c.t.Context()) != nil {
		return ""
	}
	sum := sha256.Sum256(s.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return string(sum[:])
}

// TestA142HMACSurvivesRenewals: the internal CA with certificates of 30 seconds, each with a new key. A record and an
// original digest from before three renewals and a restart are the same after them.
func TestA142HMACSurvivesRenewals(t *testing.T) {
	b := newBench(t)
	const soon = "\trenew_interval 1s\n\trenewal_window_ratio 0.85\n"
	config, err := adapt(t, b.hmacFile(t, soon, internalSite))
	if err != nil {
		t.Fatal(err)
	}
	c := b.dialing(t, run(t, config), nil)
	b.trustInternal(t)
	until(t, "the first certificate", func() bool { return c.servedKey() != "" })
	record := c.protect("u", "correct horse")
	_, digest := c.do("GET", "/hmac-service?correct+horse&2", "")
	seen := map[string]bool{c.servedKey(): true}
	for len(seen) < 4 {
		until(t, "a renewal", func() bool {
			k := c.servedKey()
			return k != "" && !seen[k]
		})
		seen[c.servedKey()] = true
		c.http.CloseIdleConnections()
		if !c.verify("u", "correct horse", record) {
			t.Fatalf("after %d renewals it does not verify", len(seen)-1)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	load(t, config)
	c = b.dialing(t, run2(t), nil)
	until(t, "a certificate after the restart", func() bool { return c.servedKey() != "" })
	if !c.verify("u", "correct horse", record) || c.verify("u", "wrong", record) {
		t.Error("after the restart it does not verify")
	}
	if _, again := c.do("GET", "/hmac-service?correct+horse&2", ""); again != digest || len(digest) != 64 {
		t.Errorf("the original form said %s, says %s", digest, again)
	}
}

// swapKey puts a certificate with a new key in the place of the bench's.
func (b bench) swapKey(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	tmpl.NotBefore, tmpl.NotAfter = certTimes()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	b.pool.AddCert(cert)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "tls.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	b.write(t, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

func certTimes() (from, to time.Time) {
	now := time.Now
	return now().Add(-time.Hour), now().Add(time.Hour)
}

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
	b.swapKey(t)
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
	b.swapKey(t)
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
