package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestHMACOriginal: the original form gives, byte for byte, what the openssl command computes with the PKCS#8 PEM as its key.
func TestHMACOriginal(t *testing.T) {
	for kind, generate := range map[string][]string{
		"RSA-2048": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"RSA-4096": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"},
		"P-256":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"Ed25519":  {"-algorithm", "ed25519"},
	} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			key, cert := filepath.Join(dir, "k.pem"), filepath.Join(dir, "c.pem")
			openssl(t, append([]string{"genpkey", "-out", key}, generate...)...)
			openssl(t, "req", "-x509", "-new", "-key", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
			r := newHMAC(t, hmacConfig, "CERT", cert, "KEY", key)
			for password, query := range map[string]string{"correct horse": "correct+horse", "häuser&=%": "h%C3%A4user%26%3D%25", "cut": "cut%00off"} {
				for rounds := 1; rounds <= 3; rounds++ {
					want := opensslRounds(t, key, password, rounds)
					res := output(t, nil, "curl", "-sS", "--http1.1", "--cacert", cert, r.hmacURL(fmt.Sprintf("/hmac-service?%s&%d", query, rounds)))
					if strings.TrimSpace(res.stdout) != want {
						t.Errorf("%q, %d rounds: %q %s, openssl says %q", password, rounds, res.stdout, res.stderr, want)
					}
				}
			}
			for query, want := range map[string]string{"correct+horse": opensslRounds(t, key, "correct horse", 1), "correct+horse&0": opensslRounds(t, key, "correct horse", 1)} {
				if res := output(t, nil, "curl", "-sS", "--http1.1", "--cacert", cert, r.hmacURL("/hmac-service?"+query)); strings.TrimSpace(res.stdout) != want {
					t.Errorf("%s: %q, openssl says %q", query, res.stdout, want)
				}
			}
			for _, query := range []string{"x&100001", "x&-1", "x&1e3", "x&1&1", "x%zz&1", "x&0x10"} {
				res := output(t, nil, "curl", "-sS", "--http1.1", "--cacert", cert, "-o", "/dev/null", "-w", "%{http_code}", r.hmacURL("/hmac-service?"+query))
				if res.stdout != "400" {
					t.Errorf("%s: %s, want 400", query, res.stdout)
				}
			}
		})
	}
}

func openssl(t testing.TB, args ...string) result {
	t.Helper()
	res := output(t, nil, append([]string{"openssl"}, args...)...)
	if res.code != 0 {
		t.Fatalf("openssl %v: %s", args, res.stderr)
	}
	return res
}

// opensslRounds computes rounds of HMAC-SHA-256 with the openssl command alone.
func opensslRounds(t testing.TB, key, password string, rounds int) string {
	t.Helper()
	pemText := openssl(t, "pkey", "-in", key).stdout
	message := password
	for range rounds {
		res := outputIn(t, message, nil, "openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", fmt.Sprintf("hexkey:%x", pemText), "-binary")
		if res.code != 0 {
			t.Fatalf("openssl dgst: %s", res.stderr)
		}
		message = res.stdout
	}
	return fmt.Sprintf("%X", message)
}
