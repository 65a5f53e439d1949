package integration

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestA142HMACSurvivesRenewals: the internal CA with certificates of thirty seconds, each with a new key. A record and an
// original digest from before three renewals and a restart are the same after them.
func TestA142HMACSurvivesRenewals(t *testing.T) {
	t.Parallel() // some waiting
	renewing := strings.Replace(hmacConfig, "\tadmin off", "\tadmin off\n\trenew_interval 1s\n\trenewal_window_ratio 0.85\n\tlocal_certs", 1)
	renewing = strings.Replace(renewing, "tls $CERT $KEY", "tls {\n\t\tissuer internal {\n\t\t\tlifetime 30s\n\t\t}\n\t}", 1)
	r := prepare(t, "")
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken)
	r.configure(t, strings.Replace(renewing, "recovery $RECOVERY", "no_recovery", 1))
	r.run(t)
	root := filepath.Join(r.dataDir(), "pki", "authorities", "local", "root.crt")
	call := func(method, path, body string) (int, string) {
		b, err := os.ReadFile(root)
		if err != nil {
			return 0, err.Error()
		}
		config := clientTLS("localhost")
		config.RootCAs = config.RootCAs.Clone()
		config.RootCAs.AppendCertsFromPEM(b)
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		req, err := http.NewRequest(method, r.hmacURL(path), strings.NewReader(body))
		if err != nil {
			return 0, err.Error()
		}
		req.Header.Set("Authorization", "Bearer "+hmacToken)
		req.Header.Set("Content-Type", "application/json")
		res, err := transport.RoundTrip(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			return 0, err.Error()
		}
		return res.StatusCode, string(answer)
	}
	client := func(path, body string) (int, string) { return call("POST", path, body) }
	original := func() string { // 64 digits, or what went wrong
		status, body := call("GET", "/hmac-service?correct+horse&2", "")
		if status != 200 || len(body) != 64 {
			return fmt.Sprint(status, " ", body)
		}
		return body
	}
	var record string
	eventually(t, patience, func() error {
		status, body := client("/hmac-service/v1/protect", mustJSON(map[string]any{"items": []any{map[string]string{"uid": "u", "secret": "s"}}}))
		var answer struct{ Items []struct{ Record string } }
		if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil || len(answer.Items) != 1 {
			return fmt.Errorf("protect: %d %s", status, body)
		}
		record = answer.Items[0].Record
		return nil
	})
	digest := original()
	if len(digest) != 64 {
		t.Fatalf("the original form answers %s", digest)
	}
	verify := mustJSON(map[string]string{"uid": "u", "secret": "s", "record": record})
	serials := map[string]bool{}
	deadline := time.Now().Add(5 * time.Minute)
	for len(serials) < 4 && time.Now().Before(deadline) {
		if serial := r.serial(t); serial != "" {
			serials[serial] = true
		}
		if status, body := client("/hmac-service/v1/verify", verify); status != 200 || !strings.Contains(body, `"match":true`) {
			t.Fatalf("after %d certificates: %d %s", len(serials), status, body)
		}
		time.Sleep(500 * time.Millisecond)
	}
	if len(serials) < 4 {
		t.Fatalf("only %d certificates were served", len(serials))
	}
	r.proc.stop(t)
	r.run(t)
	eventually(t, patience, func() error {
		if status, body := client("/hmac-service/v1/verify", verify); status != 200 || !strings.Contains(body, `"match":true`) {
			return fmt.Errorf("after the restart: %d %s", status, body)
		}
		return nil
	})
	if again := original(); again != digest {
		t.Errorf("the original form said %s, says %s", digest, again)
	}
}

// serial is the serial number of the certificate that is served now.
func (r *rig) serial(t testing.TB) string {
	t.Helper()
	config := clientTLS("localhost")
	config.InsecureSkipVerify = true // only the number is looked at
	conn, err := tls.Dial("tcp", r.addr(), config)
	if err != nil {
		return ""
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
