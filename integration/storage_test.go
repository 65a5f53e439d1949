package integration

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// sharedCertificates has Caddy's internal authority and its certificates in Redis.
var sharedCertificates = strings.NewReplacer("\tskip_install_trust", "\tskip_install_trust\n\tstorage anteroom_redis $REDIS", "tls $CERT $KEY", "tls internal").Replace(hallConfig)

// Nodes that keep their certificates in Redis show the same one, also a node that comes later and one that was killed while it
// held nothing; and who copies Redis' files has neither a private key nor a name.
func TestCertificatesAreShared(t *testing.T) {
	server := redistest.Standalone(t)
	h := prepareHall(t, 3, server, sharedCertificates)
	for _, n := range h.nodes {
		n.gated = false // the tests' clients do not know the authority yet
	}
	h.start(t, 0)
	first := leaf(t, h.nodes[0])
	h.start(t, 1)
	h.nodes[0].proc.kill()
	h.start(t, 2)
	h.start(t, 0)
	for i, n := range h.nodes {
		if got := leaf(t, n); !bytes.Equal(got.Raw, first.Raw) {
			t.Errorf("node %d shows another certificate: serial %x, the first one %x", i+1, got.SerialNumber, first.SerialNumber)
		}
	}
	dump := server.Dump()
	for _, secret := range []string{"PRIVATE KEY", "BEGIN CERTIFICATE", appHost, wideHost} {
		if bytes.Contains(dump, []byte(secret)) {
			t.Errorf("%q stands in Redis' files", secret)
		}
	}
	if len(dump) < 1000 {
		t.Errorf("Redis' files have %d bytes: nothing was looked at", len(dump))
	}
}

// leaf is the certificate that a node shows for app.test, as soon as it has one. Whoever signed it, it is only looked at.
func leaf(t testing.TB, n *rig) *x509.Certificate {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		conn, err := tls.Dial("tcp", n.addr(), &tls.Config{ServerName: appHost, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
		if err == nil {
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0]
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// The operator's commands, over the socket of a running node.
func TestOperatorsCommands(t *testing.T) {
	h := newHall(t, 2, redistest.Standalone(t), hallConfig)
	r := h.nodes[0]
	run := func(args ...string) result {
		t.Helper()
		return output(t, r.env(), append([]string{binary(t, "anteroom")}, append(args, "--address", "unix/"+r.dir+"/admin.sock")...)...)
	}
	dana, pat := r.person(t, appHost, "dana"), h.nodes[1].person(t, appHost, "pat")
	list := run("sessions", "list")
	if list.code != 0 || !strings.Contains(list.stdout, "dana") || !strings.Contains(list.stdout, "pat") {
		t.Fatalf("sessions list: %d\n%s%s", list.code, list.stdout, list.stderr)
	}
	for _, secret := range []string{dana.token, dana.context, pat.token} {
		if strings.Contains(list.stdout, secret) || strings.Contains(run("sessions", "list", "--json").stdout, secret) {
			t.Error("the list shows a half of a session")
		}
	}
	if end := run("sessions", "end-user", "dana"); end.code != 0 {
		t.Fatalf("sessions end-user: %s%s", end.stdout, end.stderr)
	}
	for i, n := range h.nodes {
		if got := answers(t, n, dana, 401); got != 401 {
			t.Errorf("node %d answers a session that the operator ended with %d", i+1, got)
		}
		if got := n.status(t, appHost, "/members/x", pat); got != 200 {
			t.Errorf("node %d answers another person's session with %d", i+1, got)
		}
	}
	keys := run("keys", "list", "--json")
	rotated := run("keys", "rotate")
	if keys.code != 0 || rotated.code != 0 {
		t.Fatalf("keys: %s%s", keys.stderr, rotated.stderr)
	}
	if got := h.nodes[1].status(t, appHost, "/members/x", pat); got != 200 {
		t.Errorf("a rotation signed somebody out: %d", got)
	}
	header, _, _ := strings.Cut(pat.token, ".")
	if kill := run("keys", "kill", kidOf(t, header)); kill.code != 0 {
		t.Fatalf("keys kill: %s%s", kill.stdout, kill.stderr)
	}
	for i, n := range h.nodes {
		if got := answers(t, n, pat, 401); got != 401 {
			t.Errorf("node %d answers a token by a killed key with %d", i+1, got)
		}
	}
	again := r.person(t, appHost, "pat")
	if got := h.nodes[1].status(t, appHost, "/members/x", again); got != 200 {
		t.Errorf("after a key was killed a new session is answered %d", got)
	}
}
