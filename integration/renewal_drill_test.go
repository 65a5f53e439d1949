package integration

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// renewals is how often the drill gets a certificate with a new key.
const renewals = 20

// acmeGlobals renews a certificate of a minute as soon as it is three seconds old.
var acmeGlobals = strings.Replace(globals, "admin off", "admin unix/$DIR/admin.sock\n\trenew_interval 1s\n\trenewal_window_ratio 0.95", 1)

// acmeConfig gets its certificate from an ACME server and has the service, and nothing else.
var acmeConfig = `{` + acmeGlobals + `
}

localhost:$PORT {
	tls {
		issuer acme {
			dir https://127.0.0.1:$ACME/dir
			trusted_roots $DIR/acme-ca.pem
			disable_http_challenge
		}
	}
	hmac_service {
		token_file $DIR/hmac.token
		recovery $RECOVERY
		limit 1000000
	}
}
`

// startACME runs Pebble. It validates over TLS-ALPN at the given port and signs for a minute.
func startACME(t testing.TB, dir string, tlsPort int) int {
	t.Helper()
	port := freePort(t)
	cert, key := ca().issue(t, dir, "acme", nil, "127.0.0.1", "localhost")
	write(t, filepath.Join(dir, "acme-ca.pem"), string(ca().pem))
	config := filepath.Join(dir, "pebble.json")
	write(t, config, mustJSON(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", port), "managementListenAddress": "",
		"certificate": cert, "privateKey": key, "httpPort": 1, "tlsPort": tlsPort, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "a minute", "validityPeriod": 60}},
	}}))
	p := start(t, "pebble", []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, part(t, "pebble/pebble"), "-config", config)
	p.waitFor(t, patience, func() error {
		transport := &http.Transport{TLSClientConfig: clientTLS("localhost"), DisableKeepAlives: true}
		res, err := (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://localhost:%d/dir", port))
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	assertLoopback(t, p)
	return port
}

// TestA142RenewalDrill: twenty renewals by a real ACME server, each with a new key. Records of every age verify, under every
// key; the pepper changes on the way. Then upgrade moves all records to the newest pepper, sign-ins make them plain again, and
// only when a census shows that nobody needs the old peppers can they be retired.
func TestA142RenewalDrill(t *testing.T) {
	t.Parallel() // minutes of waiting
	r := prepare(t, "")
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken)
	made := output(t, r.env(), binary(t, "anteroom"), "keys", "ring", "recovery-key", "--out", filepath.Join(r.dir, "recovery.key"))
	if made.code != 0 {
		t.Fatalf("making a recovery key: %+v", made)
	}
	r.names["$RECOVERY"] = strings.TrimSpace(made.stdout)
	r.names["$ACME"] = fmt.Sprint(startACME(t, r.dir, r.port))
	r.configure(t, acmeConfig)
	r.run(t)
	d := &drill{rig: r, records: map[string]string{}, keys: map[string]bool{}}

	deadline := time.Now().Add(15 * time.Minute)
	for len(d.keys) < renewals+1 && time.Now().Before(deadline) {
		if kid := d.served(t); kid != "" && !d.keys[kid] {
			d.keys[kid] = true
			d.protect(t, fmt.Sprintf("patient-%d", len(d.keys)))
			if len(d.keys)%5 == 0 {
				d.ring(t, 0, "rotate", "--in", "0s")
			}
			d.verifyAll(t)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if len(d.keys) < renewals+1 {
		t.Fatalf("only %d keys were served", len(d.keys))
	}
	t.Logf("%d keys, %d records", len(d.keys), len(d.records))
	r.proc.stop(t)
	r.run(t)
	eventually(t, patience, func() error {
		if d.served(t) == "" {
			return fmt.Errorf("no certificate yet")
		}
		if status, body := d.call(t, "verify", map[string]string{"uid": "patient-1", "secret": "wrong", "record": d.first}); status == http.StatusServiceUnavailable {
			return fmt.Errorf("the ring is not ready: %s", body)
		}
		return nil
	})
	d.verifyAll(t)

	if out := d.ring(t, 1, "retire", "p1"); !strings.Contains(out, "census") {
		t.Errorf("p1 could be retired, or the refusal does not say how: %s", out)
	}
	d.upgrade(t)
	d.verifyAll(t) // a right secret gets a fresh record, which takes the old one's place
	for uid, record := range d.records {
		if strings.Contains(record, "l=p1") || strings.Contains(record, ".p") {
			t.Errorf("%s still has %s", uid, record)
		}
	}
	if out := d.ring(t, 1, "retire", "p1"); !strings.Contains(out, "census") {
		t.Errorf("p1 could be retired without a census: %s", out)
	}
	table := filepath.Join(r.dir, "records.txt")
	var lines strings.Builder
	for _, record := range d.records {
		lines.WriteString(record + "\n")
	}
	write(t, table, lines.String())
	d.ring(t, 0, "census", table)
	for _, id := range []string{"p1", "p2"} {
		d.ring(t, 0, "retire", id)
	}
	d.verifyAll(t)
	if status, body := d.call(t, "verify", map[string]any{"uid": "patient-1", "secret": "secret of patient-1", "record": d.first}); status == 200 && strings.Contains(body, `"match":true`) {
		t.Errorf("a record of the retired pepper verifies: %d %s", status, body)
	}
}

// drill is the application of the renewal drill, with its table.
type drill struct {
	*rig
	records map[string]string // by uid
	first   string            // the first record that was ever made
	keys    map[string]bool   // kids that were served
}

// served is the kid of the key that is served now, "" while there is none.
func (d *drill) served(t testing.TB) string {
	config := clientTLS("localhost")
	config.InsecureSkipVerify = true // only the name is looked at
	conn, err := tls.Dial("tcp", d.addr(), config)
	if err != nil {
		return ""
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// call asks the service; it trusts whatever certificate is served, because the ACME server's root is new at each start.
func (d *drill) call(t testing.TB, op string, question any) (status int, body string) {
	t.Helper()
	out := output(t, nil, "curl", "-sS", "--http1.1", "-k", "-w", "\n%{http_code}", "-m", "60", "-H", "Authorization: Bearer "+hmacToken,
		"-H", "Content-Type: application/json", "--data-binary", mustJSON(question), d.hmacURL("/hmac-service/v1/"+op))
	i := strings.LastIndexByte(out.stdout, '\n')
	if i < 0 {
		t.Fatalf("%s: %+v", op, out)
	}
	fmt.Sscan(out.stdout[i+1:], &status)
	return status, out.stdout[:i]
}

func (d *drill) protect(t testing.TB, uid string) {
	t.Helper()
	var answer struct{ Items []struct{ Record string } }
	status, body := d.call(t, "protect", map[string]any{"items": []any{map[string]string{"uid": uid, "secret": "secret of " + uid}}})
	if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil || len(answer.Items) != 1 {
		t.Fatalf("protect: %d %s", status, body)
	}
	d.records[uid] = answer.Items[0].Record
	if d.first == "" {
		d.first = d.records[uid]
	}
}

// verifyAll is a sign-in of everybody. As long as the old pepper is needed a fresh record is kept only after upgrade.
func (d *drill) verifyAll(t testing.TB) {
	t.Helper()
	for uid, record := range d.records {
		var answer struct {
			Match  bool
			Record *string
		}
		status, body := d.call(t, "verify", map[string]string{"uid": uid, "secret": "secret of " + uid, "record": record})
		if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil || !answer.Match {
			t.Fatalf("after %d keys %s does not verify: %d %s", len(d.keys), uid, status, body)
		}
		if answer.Record != nil && strings.Contains(record, ".p") {
			d.records[uid] = *answer.Record
		}
	}
	if status, body := d.call(t, "verify", map[string]string{"uid": "patient-1", "secret": "wrong", "record": d.records["patient-1"]}); status != 200 || strings.Contains(body, `"match":true`) {
		t.Fatalf("a wrong secret: %d %s", status, body)
	}
}

// upgrade lays the newest pepper over every record, without a secret.
func (d *drill) upgrade(t testing.TB) {
	t.Helper()
	var uids, records []string
	for uid, record := range d.records {
		uids, records = append(uids, uid), append(records, record)
	}
	for range 2 { // a second time changes nothing
		var answer struct {
			Records []struct {
				Record  string
				Changed bool
			}
		}
		status, body := d.call(t, "upgrade", map[string]any{"records": records})
		if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil || len(answer.Records) != len(records) {
			t.Fatalf("upgrade: %d %s", status, body)
		}
		for i, a := range answer.Records {
			if records[i] == a.Record == a.Changed {
				t.Fatalf("upgrade says changed=%v: %s became %s", a.Changed, records[i], a.Record)
			}
			records[i], d.records[uids[i]] = a.Record, a.Record
		}
	}
}

// ring runs an operator's command; code is what it must exit with.
func (d *drill) ring(t testing.TB, code int, args ...string) string {
	t.Helper()
	argv := append([]string{binary(t, "anteroom"), "keys", "ring"}, args...)
	got := output(t, d.env(), append(argv, "--config", filepath.Join(d.dir, "Caddyfile"))...)
	if got.code != code {
		t.Fatalf("keys ring %v: exit %d, want %d\n%s%s", args, got.code, code, got.stdout, got.stderr)
	}
	return got.stdout + got.stderr
}
